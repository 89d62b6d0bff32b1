"""A plain convolutional net: convolutions, each with a norm and a ReLU, the mean over positions, and a linear layer.

Shapes: B batch, Y rows, X columns, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.nn import Norm

KERNEL = 3


class ConvNet(nn.Module):
    """Bytes x_BYXC -> logits [B, classes].

    Pixels are standardised by the mean and the standard deviation of each colour. Layer l has `channels[l]` kernels of 3 x 3 at
    `strides[l]`, with zeros around the image. Weights are drawn from N(0, 2 init_scale^2 / fan_in), He's at init_scale 1; biases
    are 0. The same numbers are drawn under every norm.

    Args:
        norm: acts on the summed inputs of each convolution; not on the logits.
        mean_C, std_C: of the training images' pixels, in bytes.
        classes: number of classes.
        channels, strides: one of each layer.
        statistics: what a norm over units takes together, see `lnexp.nn.Norm.conv`.
        init_scale: factor on the standard deviation of the initial weights.
    """

    mean_C: Tensor
    std_C: Tensor

    def __init__(
        self,
        norm: Norm,
        *,
        mean_C: Tensor,
        std_C: Tensor,
        classes: int,
        channels: Sequence[int],
        strides: Sequence[int],
        statistics: str,
        init_scale: float,
    ) -> None:
        super().__init__()
        self.register_buffer("mean_C", mean_C, persistent=False)
        self.register_buffer("std_C", std_C, persistent=False)
        layers, size = [], len(mean_C)
        for units, stride in zip(channels, strides, strict=True):
            conv = nn.utils.skip_init(nn.Conv2d, size, units, KERNEL, stride, KERNEL // 2, bias=not norm.shifts)
            nn.init.normal_(conv.weight, std=init_scale * math.sqrt(2 / (size * KERNEL**2)))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            layers.append(nn.Sequential(norm.weight(conv), norm.conv(units, statistics)))
            size = units
        self.layers = nn.ModuleList(layers)
        self.output = nn.utils.skip_init(nn.Linear, size, classes)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs

    def forward(self, x_BYXC: Tensor) -> Tensor:
        for summed_BCYX in self.summed_inputs(x_BYXC):
            a_BCYX = summed_BCYX
        return self.output(a_BCYX.relu().mean((2, 3)))

    def summed_inputs(self, x_BYXC: Tensor) -> list[Tensor]:
        """Those of every layer, after its norm: what its ReLU reads."""
        a_BCYX = ((x_BYXC - self.mean_C) / self.std_C).permute(0, 3, 1, 2)
        found = list[Tensor]()
        for layer in self.layers:
            a_BCYX = layer(F.relu(a_BCYX) if found else a_BCYX)
            found.append(a_BCYX)
        return found


def sides(side: int, strides: Sequence[int]) -> list[int]:
    """Side of the feature map of each layer."""
    found = []
    for stride in strides:
        side = -(-side // stride)
        found.append(side)
    return found
