"""Batches of examples that lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from lnexp.errors import UserError
from lnexp.seeding import generator


class ArrayBatches:
    """Batches of rows of equally long tensors, shuffled by (seed, epoch).

    Args:
        tensors: name -> tensor whose first dimension counts the examples, all on one device.
        batch_size: examples in a batch, over all processes together.
        seed: None: in the order of the data, the last batch may be smaller. Else shuffled, and what does not fill a batch is
            left out of this epoch.
        share: (rank, processes): every process gets its own, equally large part of each batch.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.tensors, self.batch_size, self.shuffled = tensors, batch_size, seed is not None
        self.rank, self.processes = share
        first = next(iter(tensors.values()))
        self.examples = len(first)
        if seed is not None:
            if batch_size > self.examples:
                raise UserError(f"batch_size={batch_size}: there are only {self.examples} training examples")
            if batch_size % self.processes:
                raise UserError(f"batch_size={batch_size}: must be a multiple of the {self.processes} processes")
            self.order = torch.randperm(self.examples, generator=generator(seed, "order", epoch)).to(first.device)

    def __len__(self) -> int:
        return self.examples // self.batch_size if self.shuffled else -(-self.examples // self.batch_size)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        if not 0 <= k < len(self):
            raise IndexError(k)
        rows = slice(k * self.batch_size, (k + 1) * self.batch_size)
        if not self.shuffled:
            return {name: tensor[rows] for name, tensor in self.tensors.items()}
        index = self.order[rows][self.rank :: self.processes]
        return {name: tensor.index_select(0, index) for name, tensor in self.tensors.items()}
