"""gain * N(a) + bias at one place of a recurrent layer, one step after the other, by torch's own normalisations.

Shapes: T time, F features of the place, R rows (real cases); b the real cases of one step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.nn.ops.recurrent.interface import Cell, Stats, Weights
from lnexp.nn.ops.recurrent.reference import affine, spread


class UnitNorm:
    """Layer or RMS normalisation: over the units of one case, separately for each group of features; the step is ignored.

    Args:
        centred: subtract the mean: layer normalisation. Otherwise RMS normalisation.
        groups: sizes of the groups; they add up to F.
    """

    def __init__(self, centred: bool, eps: float, groups: list[int], gain_F: Tensor | None, bias_F: Tensor | None) -> None:
        self.centred, self.eps, self.groups = centred, eps, groups
        self.gains = [None] * len(groups) if gain_F is None else gain_F.split(groups)
        self.biases = [None] * len(groups) if bias_F is None else bias_F.split(groups)

    def __call__(self, t: int, a_RF: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.normalise(a_RF, self.gains[0], self.biases[0])
        parts = zip(a_RF.split(self.groups, dim=1), self.gains, self.biases, strict=True)
        return torch.cat([self.normalise(*part) for part in parts], dim=1)

    def normalise(self, a_RF: Tensor, gain_F: Tensor | None, bias_F: Tensor | None) -> Tensor:
        if self.centred:
            return F.layer_norm(a_RF, a_RF.shape[1:], gain_F, bias_F, self.eps)
        a_RF = F.rms_norm(a_RF, a_RF.shape[1:], gain_F, self.eps)
        return a_RF if bias_F is None else a_RF + bias_F


class GroupNorm:
    """Group normalisation: layer normalisation of equal groups of features; the step is ignored."""

    def __init__(self, groups: int, eps: float, gain_F: Tensor | None, bias_F: Tensor | None) -> None:
        self.groups, self.eps, self.gain_F, self.bias_F = groups, eps, gain_F, bias_F

    def __call__(self, t: int, a_RF: Tensor) -> Tensor:
        return torch.group_norm(a_RF, self.groups, self.gain_F, self.bias_F, self.eps)


class DynamicTanh:
    """gain * tanh(alpha a) + bias; the step is ignored."""

    def __init__(self, alpha_F: Tensor, gain_F: Tensor | None, bias_F: Tensor | None) -> None:
        self.alpha_F, self.gain_F, self.bias_F = alpha_F, gain_F, bias_F

    def __call__(self, t: int, a_RF: Tensor) -> Tensor:
        return affine((self.alpha_F * a_RF).tanh(), self.gain_F, self.bias_F)


class CaseNorm:
    """Batch normalisation: over the cases of one step, whose mean and variance are recorded.

    Args:
        moments: population mean and variance [T, F] to normalise with instead.
    """

    def __init__(self, eps: float, gain_F: Tensor | None, bias_F: Tensor | None, moments: tuple[Tensor, Tensor] | None) -> None:
        self.eps, self.gain_F, self.bias_F, self.population = eps, gain_F, bias_F, moments
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def __call__(self, t: int, a_bF: Tensor) -> Tensor:
        if self.population is not None:
            mean_TF, var_TF = self.population
            return F.batch_norm(a_bF, mean_TF[t], var_TF[t], self.gain_F, self.bias_F, False, 0.0, self.eps)
        cases, features = a_bF.shape
        mean_F, var_F = a_bF.new_zeros(2, features).unbind()
        if cases > 1:  # a momentum of 1 makes torch store this batch's own mean and unbiased variance
            normal_bF = F.batch_norm(a_bF, mean_F, var_F, self.gain_F, self.bias_F, True, 1.0, self.eps)
            var_F = var_F * (1 - 1 / cases)
        else:  # one case is its own mean: its normalised value is 0, and torch refuses to train on it
            mean_F = a_bF.detach().sum(dim=0)
            normal_bF = F.batch_norm(a_bF.detach(), mean_F, var_F, self.gain_F, self.bias_F, False, 0.0, self.eps)
        self.means.append(mean_F)
        self.variances.append(var_F)
        return normal_bF

    def moments(self, steps: int) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [T, F] of all steps, 0 at those that no case reached."""
        unreached = (0, 0, 0, steps - len(self.means))
        return F.pad(torch.stack(self.means), unreached), F.pad(torch.stack(self.variances), unreached)


StepNorm = UnitNorm | GroupNorm | DynamicTanh | CaseNorm


def step_norm(cell: Cell, w: Weights, place: str, hidden: int, bias_F: Tensor | None, stats: Stats | None) -> StepNorm:
    """The normalisation of a place "ih", "hh" or "c" under the cell's norm, with gain and bias.

    Raises:
        ValueError: a norm that is not in its table.
    """
    gain_F, groups = getattr(w, f"gain_{place}"), cell.groups(hidden, place)
    if cell.norm == "bn":
        return CaseNorm(cell.eps, gain_F, bias_F, None if stats is None else stats.at(place))
    if cell.norm in ("ln", "rms"):
        return UnitNorm(cell.norm == "ln", cell.eps, groups, gain_F, bias_F)
    if cell.norm == "group":
        return GroupNorm(len(groups), cell.eps, gain_F, bias_F)
    if cell.norm == "dyt":
        return DynamicTanh(spread(getattr(w, f"alpha_{place}"), groups), gain_F, bias_F)
    raise ValueError(f"norm={cell.norm}: the eager implementation knows none, bn, ln, rms, group, dyt")
