"""How much of the recurrent term W_hh h a norm's centring removes.

Shapes: T time, B batch, H hidden, G gates * H, R rows (real cases of all steps), g units that are normalised together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lnexp.nn.recurrent_base import Recurrent


@contextmanager
def ones_shares(model: nn.Module) -> Iterator[list[float]]:
    """Inside the block, each run of a recurrent layer of `model` appends its share to the list, see `ones_share`.

    With several layers on one another it is the last one's; both directions count alike.
    """
    found: list[float] = []

    def measure(layer: Recurrent, inputs: Any, result: Any) -> None:
        out = result[0]
        rows_RH = (out.data if hasattr(out, "batch_sizes") else out.flatten(0, -2)).detach()
        names = layer.names(layer.num_layers - 1)
        groups = layer.cell.groups(layer.hidden_size)
        for h_RH, name in zip(rows_RH.chunk(len(names), dim=1), names, strict=True):
            h_RH = h_RH[h_RH.any(dim=1)]  # without padding
            found.append(ones_share(h_RH @ layer.weights(name).weight_hh.detach().t(), groups))

    hooks = [module.register_forward_hook(measure) for module in model.modules() if isinstance(module, Recurrent)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def ones_share(a_RG: Tensor, groups: list[int]) -> float:
    """The share of |a|^2 along the vector of ones 1: (a . 1)^2 / (g |a|^2), in mean over rows and groups of g units.

    It is what layer normalisation's centring removes: 0 for a mean of 0, 1 for equal values; 1/g in expectation for a direction
    drawn at random. Rows of zeros do not count.
    """
    shares = []
    for a_Rg in a_RG.double().split(groups, dim=1):
        size_R = a_Rg.square().mean(dim=1)
        shares.append(a_Rg.mean(dim=1).square()[size_R > 0] / size_R[size_R > 0])
    return torch.cat(shares).mean().item()
