"""Sequences of token ids of different lengths, stored in one array.

Shapes: N sequences, T tokens of the longest one, B sequences in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lnexp.data.text.vocabulary import END


class Sequences:
    """Sequences of token ids, concatenated into one array, which may be memory-mapped.

    Args:
        values: all token ids.
        lengths_N: length of each sequence, in order; 1 or more.

    Raises:
        ValueError: the lengths do not sum to the number of values, or one is below 1.
    """

    def __init__(self, values: np.ndarray, lengths_N: np.ndarray) -> None:
        self.values, self.lengths_N = values, np.asarray(lengths_N, np.int64)
        self.starts_N = np.cumsum(self.lengths_N) - self.lengths_N
        if self.lengths_N.sum() != len(values) or (len(self) and self.lengths_N.min() < 1):
            raise ValueError(f"lengths sum to {self.lengths_N.sum()} for {len(values)} values, and each must be 1 or more")

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Sequences:
        """From lists of token ids."""
        flat = np.fromiter((n for s in sequences for n in s), np.int32)
        return cls(flat, np.fromiter((len(s) for s in sequences), np.int64, len(sequences)))

    def __len__(self) -> int:
        return len(self.lengths_N)

    def __getitem__(self, n: int) -> np.ndarray:
        return self.values[self.starts_N[n] : self.starts_N[n] + self.lengths_N[n]]

    def padded(self, index_B: np.ndarray, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """A batch of sequences, one per column: (token ids int64 [T, B], padded with END; lengths int64 [B], on the CPU)."""
        lengths_B = self.lengths_N[index_B]
        t_T1 = np.arange(lengths_B.max(initial=0))[:, None]
        inside_TB = t_T1 < lengths_B
        ids_TB = self.values[self.starts_N[index_B] + np.where(inside_TB, t_T1, 0)].astype(np.int64)
        ids_TB[~inside_TB] = END
        return torch.from_numpy(ids_TB).to(device), torch.from_numpy(lengths_B)
