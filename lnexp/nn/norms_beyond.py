"""Norms that are younger than the paper and need modules of their own."""

from __future__ import annotations

from torch import nn

from lnexp.nn.conv import UnitsConv
from lnexp.nn.dense import GroupDense, TanhUnits
from lnexp.nn.norm_base import Norm, NormError

MOST_GROUPS = 32  # Wu and He 2018: 32 groups, or groups of 16 channels
LEAST_UNITS = 16


class DynamicTanh(Norm):
    """Dynamic tanh (Zhu et al. 2025): gain * tanh(alpha a) + bias, without statistics; alpha is learned and starts at `alpha`.

    A dense or convolutional layer has one alpha. A recurrent layer has one wherever layer normalisation has a mean and a
    variance: in an LSTM one for W_ih x, one for W_hh h and one for the new cell where the output reads it, so that

        (i, f, g, o) = gain_ih tanh(alpha_ih W_ih x) + bias_ih + gain_hh tanh(alpha_hh W_hh h) + bias_hh
        h = o * tanh(gain_c tanh(alpha_c c) + bias_c)

    and c is carried on as it is. With placement "per_gate" each gate has an alpha of its own; with "cell_only" the cell alone.

    Args:
        alpha: initial value of every alpha.
        gain, affine, bias: as `Norm`.

    Raises:
        ValueError: alpha is not above 0.
    """

    name = cells = "dyt"
    label = "dynamic tanh"
    shifts = True

    def __init__(self, alpha: float = 0.5, gain: float | None = None, affine: bool = True, bias: bool = True) -> None:
        super().__init__(gain=gain, affine=affine, bias=bias)
        if not alpha > 0:
            raise ValueError(f"norm.alpha={alpha}: must be above 0")
        self.alpha = alpha

    def dense(self, n: int) -> nn.Module:
        return TanhUnits(n, self.alpha, self.gain if self.affine else None, self.bias)

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        return self.dense(channels)


class GroupNorm(Norm):
    """Group normalisation (Wu and He 2018): layer normalisation of each of several equal groups of units.

    In feature maps the groups are of channels. In recurrent layers they are of the units of each gate, and of the new cell: a
    group never spans two gates, whatever the placement.

    Args:
        groups: number of groups. None: the largest one up to 32 that divides the units into groups of 16 or more, else 1.
        eps, gain, affine, bias: as `Norm`.

    Raises:
        ValueError: groups is less than 1.
        NormError: in a layer: groups does not divide the units, or leaves one unit to a group.
    """

    name = cells = "group"
    label = "group norm"
    shifts = True

    def __init__(
        self, groups: int | None = None, eps: float = 1e-5, gain: float | None = None, affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__(eps, gain, affine, bias)
        if groups is not None and (not isinstance(groups, int) or groups < 1):
            raise ValueError(f"norm.groups={groups}: must be a whole number, 1 or more, or null")
        self.groups = groups

    def groups_of(self, n: int) -> int:
        if self.groups is None:
            return max(g for g in range(1, MOST_GROUPS + 1) if n % g == 0 and (g == 1 or n // g >= LEAST_UNITS))
        if n % self.groups:
            raise NormError(f"norm.groups={self.groups}: must divide the {n} units or channels of a layer")
        return self.groups

    def dense(self, n: int) -> nn.Module:
        groups = self.groups_of(n)
        if groups == n:
            raise NormError(f"norm.groups={groups}: leaves one unit of {n} to a group, which is mapped to 0 whatever its input")
        return GroupDense(n, groups, self.eps, self.gain if self.affine else None, self.bias)

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        gain = self.gain if self.affine else None
        return UnitsConv(channels, self.eps, gain, self.bias, over, groups=self.groups_of(channels))
