"""Any registered norm in front of a nonlinearity, with its parameters in the paper's roles: weights, gain, bias.

Shapes: B batch, D inputs, N units.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lnexp.nn import NORMS, Norm
from lnexp.nn.ops.recurrent.interface import CELL_NORMS


def make_norm(name: str, eps: float) -> Norm:
    """The registered norm of that name, with this eps if it has one."""
    takes_eps = "eps" in inspect.signature(NORMS[name]).parameters
    return NORMS[name](eps=eps) if takes_eps else NORMS[name]()


def has_cells(name: str) -> bool:
    """Whether recurrent cells know the norm."""
    return NORMS[name].__dict__.get("cells") in CELL_NORMS


def own_weight(module: nn.Module, name: str = "weight") -> nn.Parameter:
    """The parameter of a weight matrix; under a reparametrisation, such as w = g v / |v|, the one of the matrix's own shape."""
    if not parametrize.is_parametrized(module, name):
        return module.get_parameter(name)
    effective: Tensor = getattr(module, name)
    originals = module.get_submodule(f"parametrizations.{name}").parameters(recurse=False)
    (own,) = [parameter for parameter in originals if parameter.shape == effective.shape]
    return own


class Layer(nn.Module):
    """x_BD -> the paper's equation (5) before f: g_N / sigma (W x - mu) + b_N, for any norm.

    Attributes:
        linear: weights W; with a bias where nothing normalises the sums (a bias inside a norm is not in equation 5).
        normal: the norm's module.
        gain_N: its gain, or that of the reparametrised weights; None where there is none.
        bias_N: the bias after normalising; None where there is none.
    """

    def __init__(self, name: str, features: int, units: int, eps: float) -> None:
        super().__init__()
        norm = make_norm(name, eps)
        self.normal = norm.dense(units)
        self.linear = norm.weight(nn.Linear(features, units, bias=isinstance(self.normal, nn.Identity)))

    @property
    def weight_ND(self) -> nn.Parameter:
        return own_weight(self.linear)

    @property
    def gain_N(self) -> nn.Parameter | None:
        weight_ND = self.weight_ND
        gains = [
            p for name, p in self.named_parameters() if p is not weight_ND and "bias" not in name and p.numel() == len(weight_ND)
        ]
        return gains[0] if gains else None

    @property
    def bias_N(self) -> nn.Parameter | None:
        biases = [p for name, p in self.named_parameters() if name.endswith("bias")]
        return biases[-1] if biases else None

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw weights N(0, 1/D), gains U(0.5, 1.5) and biases N(0, 1/4); equal numbers for all norms."""
        units, features = self.weight_ND.shape
        self.weight_ND.copy_(torch.randn(units, features, generator=generator) / features**0.5)
        for parameter, value in (
            (self.gain_N, torch.rand(units, generator=generator) + 0.5),
            (self.bias_N, torch.randn(units, generator=generator) / 2),
        ):
            if parameter is not None:
                parameter.copy_(value.view_as(parameter))

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.normal(self.linear(x_BD))
