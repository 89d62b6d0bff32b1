"""Two problems of long sequences, generated: adding and copying (after Hochreiter and Schmidhuber 1997), of any length.

Inputs have a constant last feature. Without it a layer-normalised input term would not depend on the size of the others.

Shapes: T time, B batch, I inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SYMBOLS, COPIED = 4, 3  # different symbols, and symbols in a sequence, of the copying problem


def adding(length: int, cases: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers in -1 to 1, two of them marked, one in each half; the target is their sum.

    Returns:
        x_TBI with I = 3: number, marker, 1; and the targets y_B. Always predicting 0 has a mean squared error of 2/3.
    """
    x_TBI = torch.zeros(length, cases, 3)
    x_TBI[..., 0] = 2 * torch.rand(length, cases, generator=generator) - 1
    half, all_B = length // 2, torch.arange(cases)
    first_B = torch.randint(0, half, (cases,), generator=generator)
    second_B = torch.randint(half, length, (cases,), generator=generator)
    for marked_B in (first_B, second_B):
        x_TBI[marked_B, all_B, 1] = 1.0
    x_TBI[..., 2] = 1.0
    return x_TBI, x_TBI[first_B, all_B, 0] + x_TBI[second_B, all_B, 0]


def copying(length: int, cases: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols at the start, blanks, a signal, and blanks while the symbols are to be repeated.

    Returns:
        x_TBI with T = length, and I = SYMBOLS + 3: one-hot symbol, blank or signal, and 1; the targets y_TB of the last COPIED
        steps, T = COPIED. Guessing has an error rate of 1 - 1 / SYMBOLS.
    """
    blank, signal = SYMBOLS, SYMBOLS + 1
    y_TB = torch.randint(0, SYMBOLS, (COPIED, cases), generator=generator)
    tokens_TB = torch.full((length, cases), blank)
    tokens_TB[:COPIED] = y_TB
    tokens_TB[length - COPIED - 1] = signal
    one_hot_TBI = F.one_hot(tokens_TB, SYMBOLS + 2).float()
    return torch.cat([one_hot_TBI, torch.ones(length, cases, 1)], dim=2), y_TB
