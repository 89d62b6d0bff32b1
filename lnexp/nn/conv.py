"""Modules that normalise the feature maps a_BCXY of convolutional layers.

Shapes: B batch, C channels, X and Y positions, g groups of channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lnexp.nn.dense import BatchDense
from lnexp.nn.norm_base import NormError

OVER = {"map": (1, 2, 3), "position": (1,), "instance": (2, 3)}  # what is taken together -> dimensions of a_BCXY


class UnitsConv(nn.Module):
    """gain_C * (a - mu) / sqrt(var + eps) + bias_C with mean and biased variance over the units of one case.

    Args:
        channels: C.
        eps: added to the variance.
        gain: initial value of the gains; None: no gains.
        bias: whether there are biases; they start at 0.
        over: "map": one mean and variance for all channels and positions, as layer normalisation of a layer's units; "position":
            one at each position, over its channels; "instance": one for each channel, over its positions.
        centred: subtract the mean. Otherwise sigma is the root mean square.
        groups: number of groups of channels with a mean and a variance each.

    Raises:
        NormError: an unknown `over`, or one that leaves a single value to normalise.
    """

    def __init__(
        self, channels: int, eps: float, gain: float | None, bias: bool, over: str, centred: bool = True, groups: int = 1
    ) -> None:
        super().__init__()
        if over not in OVER:
            raise NormError(f"over={over}: allowed are {', '.join(OVER)}")
        if over == "position" and groups == channels:
            raise NormError(f"over=position: one channel of {channels} in a group is mapped to one value whatever its input")
        self.channels, self.eps, self.over, self.centred = channels, eps, over, centred
        self.groups = channels if over == "instance" else groups
        self.weight = None if gain is None else nn.Parameter(torch.full((channels,), gain))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, a_BCXY: Tensor) -> Tensor:
        if self.centred and self.over != "position":
            return torch.group_norm(a_BCXY, self.groups, self.weight, self.bias, self.eps)
        parts_BgCXY = a_BCXY.unflatten(1, (self.groups, self.channels // self.groups))
        together = (2,) if self.over == "position" else (2, 3, 4)
        if self.centred:
            parts_BgCXY = parts_BgCXY - parts_BgCXY.mean(together, keepdim=True)
        normal = parts_BgCXY * (parts_BgCXY.square().mean(together, keepdim=True) + self.eps).rsqrt()
        return affine(normal.flatten(1, 2), self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.channels}, over={self.over}, groups={self.groups}, eps={self.eps}, centred={self.centred}"


class BatchConv(BatchDense):
    """`BatchDense` for feature maps: mean and variance of each channel over cases and positions."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"input.shape={tuple(input.shape)}: must be (batch, channels, height, width)")


def affine(a_BCXY: Tensor, gain_C: Tensor | None, bias_C: Tensor | None) -> Tensor:
    """gain_C * a + bias_C, each if there is one."""
    a_BCXY = a_BCXY if gain_C is None else a_BCXY * gain_C[:, None, None]
    return a_BCXY if bias_C is None else a_BCXY + bias_C[:, None, None]
