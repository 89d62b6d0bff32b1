"""Data-parallel training under `torchrun`: every process trains on its part of each batch, the first one writes.

torchrun --standalone --nproc_per_node=2 train.py task=mnist norm=ln
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Team:
    """The processes of one run; a team of one does nothing special.

    Attributes:
        rank, size: this process's number and how many there are, as torchrun sets them.
        device: where this process computes.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1 and device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        self.device = device

    @property
    def leads(self) -> bool:
        """True in the one process that evaluates and writes."""
        return self.rank == 0

    def __enter__(self) -> Team:
        if self.size > 1:
            cuda = self.device.startswith("cuda")
            if cuda:
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if cuda else "gloo")
        return self

    def __exit__(self, *error: object) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def loss(
        self, model: nn.Module, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    ) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from this process's part of a batch to its loss; the backward pass averages gradients over the team."""
        if self.size == 1:
            return lambda batch: loss(model, batch)

        class Loss(nn.Module):  # DistributedDataParallel watches forward calls, so the whole loss is one
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, batch: dict[str, Tensor]) -> Tensor:
                return loss(self.model, batch)

        return nn.parallel.DistributedDataParallel(Loss())

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over the processes."""
        total = value.clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total.item() / self.size

    def gather(self, value: object) -> list:
        """One value from each process, in every process."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait_for_device(self) -> None:
        """Return when this process's GPU, if it has one, has done all that was asked of it."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            dist.barrier()
