"""Batches of examples: which examples each batch holds, and what tensors they become.

Shapes: N examples, B examples in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lnexp.errors import UserError
from lnexp.seeding import fold, generator

Share = tuple[int, int]  # (rank, number of processes)
Collate = Callable[[np.ndarray, int], dict[str, Tensor]]


class Batches:
    """The batches of one epoch, in any order of access.

    Args:
        index_batches: example indices [B] of each batch, over all processes.
        collate: (index_B, k) -> tensors of batch k that hold the examples index_B.
        seed: None in evaluation: every process gets whole batches. Else, in training, each process gets its share.
        share: (rank, processes): in training, process `rank` gets every `processes`-th example of each batch, from `rank` on.

    Raises:
        UserError: in training, the batch size is not a multiple of the number of processes.
    """

    def __init__(
        self, index_batches: Sequence[np.ndarray] | np.ndarray, collate: Collate, seed: int | None = None, share: Share = (0, 1)
    ) -> None:
        self.index_batches, self.collate = index_batches, collate
        self.rank, self.processes = (0, 1) if seed is None else share
        if len(index_batches) and len(index_batches[0]) % self.processes:
            raise UserError(f"batch_size={len(index_batches[0])}: must be a multiple of the {self.processes} processes")

    def __len__(self) -> int:
        return len(self.index_batches)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        if not 0 <= k < len(self):
            raise IndexError(f"batch {k} of {len(self)}")
        return self.collate(self.index_batches[k][self.rank :: self.processes], k)


def array_batches(
    tensors: Mapping[str, Tensor], batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)
) -> Batches:
    """Batches of rows of tensors.

    Args:
        tensors: name -> tensor [N, ...], all on one device.
        batch_size: examples in a batch, over all processes.
        seed: None: in order, the last batch may be smaller. Else shuffled by (seed, epoch); the last incomplete batch is dropped.
        share: see `Batches`.
    """
    first = next(iter(tensors.values()))

    def collate(index_B: np.ndarray, k: int) -> dict[str, Tensor]:
        index = torch.from_numpy(index_B).to(first.device)
        return {name: tensor.index_select(0, index) for name, tensor in tensors.items()}

    index_batches = in_order(len(first), batch_size) if seed is None else shuffled(len(first), batch_size, seed, epoch)
    return Batches(index_batches, collate, seed, share)


def in_order(examples: int, batch_size: int) -> list[np.ndarray]:
    """Index batches of all examples in order; the last batch may be smaller."""
    return [np.arange(k, min(k + batch_size, examples)) for k in range(0, examples, batch_size)]


def shuffled(examples: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Index batches of all examples, shuffled by (seed, epoch); the last incomplete batch is dropped."""
    return full_batches(torch.randperm(examples, generator=generator(seed, "order", epoch)).numpy(), batch_size)


def full_batches(order_N: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive index batches of a given order; the last incomplete batch is dropped.

    Raises:
        UserError: there is not one full batch.
    """
    if batch_size > len(order_N):
        raise UserError(f"batch_size={batch_size}: there are only {len(order_N)} training examples")
    return [order_N[k : k + batch_size] for k in range(0, len(order_N) - batch_size + 1, batch_size)]


def bucketed(lengths_N: np.ndarray, batch_size: int, seed: int | None = None, epoch: int = 0) -> list[np.ndarray]:
    """Index batches of sequences of similar length.

    Args:
        lengths_N: length of each sequence.
        batch_size: sequences in a batch.
        seed: None: all sequences sorted by length; the last batch may be smaller. Else shuffled by (seed, epoch), sorted within
            windows of 100 batches, and the batches shuffled; the last incomplete batch is dropped.

    Raises:
        UserError: with a seed, there is not one full batch.
    """
    if seed is None:
        order_N = np.argsort(lengths_N, kind="stable")
        return [order_N[k] for k in in_order(len(order_N), batch_size)]
    from lnexp.data.text.torchtext_adapter import pool  # torchtext takes a second to import

    order_N = np.random.default_rng(fold(seed, "order", epoch)).permutation(len(lengths_N))
    full_N = np.concatenate(full_batches(order_N, batch_size))
    return [np.array(batch) for batch in pool(full_N.tolist(), batch_size, lengths_N, fold(seed, "buckets", epoch))]


def equal_length(lengths_N: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Index batches [K, B] of sequences of exactly equal length, shuffled by (seed, epoch); incomplete batches are dropped.

    Raises:
        UserError: no `batch_size` sequences have the same length.
    """
    random = np.random.default_rng(fold(seed, "order", epoch))
    full = []
    for length in np.unique(lengths_N):
        index = random.permutation(np.flatnonzero(lengths_N == length))
        full.append(index[: len(index) // batch_size * batch_size].reshape(-1, batch_size))
    batches = random.permutation(np.concatenate(full))
    if not len(batches):
        raise UserError(f"batch_size={batch_size}: no {batch_size} training examples have the same length")
    return batches
