"""The choice of one implementation for a recurrent layer in one direction over a whole sequence.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lnexp.nn.ops.recurrent.cpu import fits, fused
from lnexp.nn.ops.recurrent.eager import hoisted
from lnexp.nn.ops.recurrent.interface import Cell, Output, Stats, Weights
from lnexp.nn.ops.recurrent.reference import reference


def run(
    cell: Cell,
    w: Weights,
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor | None,
    lengths_B: Tensor | None,
    stats: Stats | None = None,
) -> Output:
    """Run the layer with the fastest implementation that fits; all give the same result to rounding.

    The compiled kernel where it fits, plain torch calls (`hoisted`) elsewhere; inside `torch.compile` the layer is left as it is.
    The environment variable LNEXP_FUSED asks for another one: "0" for the readable reference, "compile" for the reference through
    torch.compile, which unrolls the steps: slow to compile, and worth it on a GPU for short sequences of one length.

    Args:
        lengths_B: int64 on the CPU, each 1..T: sequence b is real at t < lengths_B[b]. None: all T steps are real. On padding
            the states keep their values, the output is 0, and x is never read.
        stats: norm "bn": the population statistics to evaluate with; None in training, where the batch's own are used.
    """
    chosen = os.environ.get("LNEXP_FUSED", "")
    if chosen not in ("", "1", "0", "compile"):
        raise ValueError(f"LNEXP_FUSED={chosen}: allowed are 1 (the default), 0, compile")
    # Not a decorator, as that would make every import of this file import the compiler.
    fastest = torch.compiler.disable(_fastest) if torch.compiler.is_compiling() else _fastest
    implementation = {"0": reference, "compile": _compiled_reference}.get(chosen, fastest)
    return implementation(cell, w, x_TBI, h0_BH, c0_BH, lengths_B, stats)


def _fastest(cell: Cell, w: Weights, x_TBI: Tensor, *rest: Any) -> Output:
    return (fused if fits(cell, w, x_TBI) else hoisted)(cell, w, x_TBI, *rest)


def _compiled_reference(*given: Any) -> Output:
    return _compile()(*given)


@cache
def _compile() -> Callable[..., Output]:
    return torch.compile(reference)
