"""Data-parallel training under `torchrun`: every process trains on its part of each batch, the first one writes.

torchrun --standalone --nproc_per_node=2 train.py task=mnist norm=ln
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lnexp.tasks.base import Batch, Loss

Parts = dict[str, Tensor]


class ProcessGroup:
    """The processes that train one model together. With one process all methods are the identity.

    Args:
        device: where this process computes; "cuda" becomes the GPU of its local rank.

    Attributes:
        rank, size: number of this process and of all processes, as torchrun sets them.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1 and device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        self.device = device

    @property
    def is_first(self) -> bool:
        """True in the one process that evaluates and writes."""
        return self.rank == 0

    def __enter__(self) -> ProcessGroup:
        if self.size > 1:
            cuda = self.device.startswith("cuda")
            if cuda:
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if cuda else "gloo")
        return self

    def __exit__(self, *error: object) -> None:
        if self.size > 1 and dist.is_initialized():
            gc.collect()  # DistributedDataParallel is part of reference cycles; alive at exit, it would abort the process
            dist.destroy_process_group()

    def wrap(self, model: nn.Module, loss: Callable[[nn.Module, Batch], Loss]) -> Callable[[Batch], tuple[Tensor, Parts]]:
        """A function from this process's part of a batch to (loss, named parts); backward averages gradients over processes."""

        def loss_and_parts(batch: Batch) -> tuple[Tensor, Parts]:
            result = loss(model, batch)
            return (result, {}) if isinstance(result, Tensor) else result

        if self.size == 1:
            return loss_and_parts

        class WithLoss(nn.Module):  # DistributedDataParallel hooks into `forward`, which must therefore contain the loss
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, batch: Batch) -> tuple[Tensor, Parts]:
                return loss_and_parts(batch)

        return nn.parallel.DistributedDataParallel(WithLoss())

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over the processes."""
        total = value.clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total.item() / self.size

    def any(self, flag: bool, synchronise: bool) -> bool:
        """Whether `flag` is set in any process.

        Several processes exchange it only where `synchronise` is true, which must be so in all of them; elsewhere it is False.
        """
        if self.size == 1:
            return flag
        return any(self.gather(flag)) if synchronise else False

    def gather(self, value: object) -> list:
        """The values of all processes, in every process."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when all processes have called it."""
        if self.size > 1:
            dist.barrier()
