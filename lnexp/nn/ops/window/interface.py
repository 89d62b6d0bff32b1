"""What both implementations of the windowed LSTM take and return.

Shapes: T time, B batch, D inputs, C symbols, H hidden, G = 4H, K Gaussians, U symbols of the longest text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnexp.nn.ops.recurrent.interface import Cell, Stats, Weights


class Inputs(NamedTuple):
    """The arguments of one run over a sequence; the states, the window and its place start at 0.

    Args:
        cell: of kind "lstm".
        w: its weights, without a projection; weight_ih [G, D + C], the last C columns for the window.
        x_TBD: the inputs beside the window.
        weight_p, bias_p: [3K, H], [3K]: from h to the logarithms of alpha, beta and the step of kappa.
        codes_BU: int64, 0 to C - 1: the symbols of the texts, padded with any symbol.
        characters_B: int64 on the CPU, 0 to U: their lengths.
        lengths_B: int64 on the CPU, 1 to T: case b is real at t < lengths_B[b]. None: all T steps are real. On padding both
            outputs are 0 and x is never read.
        symbols: C.
        stats: norm "bn": the population statistics to evaluate with; None in training, where the batch's own are used.
    """

    cell: Cell
    w: Weights
    x_TBD: Tensor
    weight_p: Tensor
    bias_p: Tensor
    codes_BU: Tensor
    characters_B: Tensor
    lengths_B: Tensor | None
    symbols: int
    stats: Stats | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All differentiable inputs, in this order: x, weight_p, bias_p, weights."""
        return self.x_TBD, self.weight_p, self.bias_p, *self.w

    def with_tensors(self, *tensors: Any) -> Inputs:
        """The same run on other tensors, in the order of `tensors`."""
        x_TBD, weight_p, bias_p, *weights = tensors
        return self._replace(x_TBD=x_TBD, weight_p=weight_p, bias_p=bias_p, w=Weights._make(weights))

    def without_tensors(self) -> Inputs:
        """The same run with no differentiable inputs yet, for `with_tensors`: it keeps none of them alive."""
        return self.with_tensors(*(None for _ in self.tensors))

    def check(self) -> None:
        """Raise a ValueError about the first argument whose shape, type or device is wrong. (The kernels work on addresses.)"""
        x, w = self.x_TBD, self.w
        if self.cell.kind != "lstm" or w.weight_hr is not None:
            raise ValueError(f"{self.cell.kind}: a window needs an LSTM without a projection")
        if x.dim() != 3 or not x.numel():
            raise ValueError(f"x_TBD.shape={tuple(x.shape)}: must be (T, B, D), each 1 or more")
        (T, B, D), (G, H), K, C = x.shape, w.weight_hh.shape, len(self.bias_p) // 3, self.symbols
        shapes = {"weight_ih": (G, D + C), "weight_hh": (4 * H, H), "gain_c": (H,), "bias_c": (H,)}
        shapes |= {"weight_p": (3 * K, H), "bias_p": (3 * K,), **self.cell.alphas(H)}
        shapes |= {
            f"{moment}_{place}": (T, H if place == "c" else G) for moment in ("mean", "var") for place in ("ih", "hh", "c")
        }
        stats = {} if self.stats is None else self.stats._asdict()
        for name, t in {**w._asdict(), **stats, "weight_p": self.weight_p, "bias_p": self.bias_p}.items():
            wanted = shapes.get(name, (G,))
            if t is not None and (tuple(t.shape) != wanted or t.dtype != x.dtype or t.device != x.device):
                got = f"{tuple(t.shape)} {t.dtype} on {t.device}"
                raise ValueError(f"{name}={got}: must be {wanted} {x.dtype} on {x.device}, as x_TBD is")
        U = self.codes_BU.shape[-1]
        for name, t, bounds in (
            ("codes_BU", self.codes_BU, (0, C - 1)),
            ("characters_B", self.characters_B, (0, U)),
            ("lengths_B", self.lengths_B, (1, T)),
        ):
            if t is None:
                continue
            wanted = (B, U) if name == "codes_BU" else (B,)
            if t.dtype != torch.int64 or tuple(t.shape) != wanted:
                raise ValueError(f"{name}={tuple(t.shape)} {t.dtype}: must be {wanted} torch.int64")
            if name != "codes_BU" and t.device.type != "cpu":
                raise ValueError(f"{name} is on {t.device}: must be on the cpu")
            if t.numel() and not (int(t.min()) >= bounds[0] and int(t.max()) <= bounds[1]):
                raise ValueError(f"{name}: from {int(t.min())} to {int(t.max())}, must be from {bounds[0]} to {bounds[1]}")


class Output(NamedTuple):
    """The hidden states and the windows of all steps, 0 on padding, and the statistics of the batch."""

    h_TBH: Tensor
    w_TBC: Tensor
    stats: Stats | None  # detached; norm "bn" in training only
