"""Chooses the implementation that runs a recurrent layer in one direction over a whole sequence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache

import torch

from lnexp.nn.ops.autograd import transformed
from lnexp.nn.ops.recurrent.cpu import fits, has_bfloat16_products, launch
from lnexp.nn.ops.recurrent.eager import eager
from lnexp.nn.ops.recurrent.interface import Inputs, Output
from lnexp.nn.ops.recurrent.reference import reference

CHOICES = ("", "1", "0", "compile")


def run(inputs: Inputs) -> Output:
    """Run the layer with the fastest implementation that can; all give the same result to rounding.

    - `cpu`: compiled kernels, where they fit: plain CPU tensors in float32 or float64.
    - `eager`: plain torch calls with one gradient of W_hh for all steps; any device and floating-point type, dispatch modes.
    - `reference`: plain torch operations only; for tracing, the transforms of `torch.func`, forward-mode differentiation and
      subclasses of Tensor (fake tensors, export). Derivatives of order two and higher go through it, whichever ran forward, and
      products="bfloat16" where the kernels cannot do them.

    The environment variable LNEXP_FUSED asks for another one: "0" for the reference, "compile" for the reference through
    `torch.compile`, which unrolls the steps: slow to compile, and worth it on a GPU for short sequences of one length.

    Raises:
        ValueError: an unknown LNEXP_FUSED, an unknown norm, or types that do not fit together.
    """
    chosen = os.environ.get("LNEXP_FUSED", "")
    if chosen not in CHOICES:
        raise ValueError(f"LNEXP_FUSED={chosen}: allowed are 1 (the default), 0, compile")
    if chosen in ("", "1") and fits(inputs):
        return launch(inputs)
    given, own = [t for t in inputs[2:5] if isinstance(t, torch.Tensor)], inputs.w.weight_ih.dtype
    if any(t.dtype != own for t in given):
        raise ValueError(f"input and hx are {', '.join(str(t.dtype) for t in given)}: must be {own}, as the parameters are")
    reduced = inputs.cell.products == "bfloat16"
    if reduced and own != torch.float32:
        raise ValueError(f"products=bfloat16: parameters are {own}, and must be torch.float32")
    if 0 in inputs.x_TBI.shape[:2]:
        return empty(inputs)
    if reduced and chosen != "0":
        warn_of_slow_products()
    if chosen == "0" or reduced or transformed(inputs.tensors):
        return reference(inputs)
    return _compiled_reference()(inputs) if chosen == "compile" else eager(inputs)


def empty(inputs: Inputs) -> Output:
    """The result without steps or without cases: the states as they came. All inputs have gradients, 0 where unused."""
    nothing = sum((t.flatten()[:0].sum() for t in inputs.tensors if t is not None), start=inputs.h0_BH.new_zeros(()))
    h_BH, c_BH = (None if state is None else state + nothing for state in (inputs.h0_BH, inputs.c0_BH))
    assert h_BH is not None
    return Output(h_BH[None].expand(len(inputs.x_TBI), -1, -1), h_BH, c_BH, None)


@cache
def warn_of_slow_products() -> None:
    """Say once that bfloat16 is no gain here."""
    unfit, absent = "no kernel fits this layer or its tensors", "this processor has no avx512_bf16, or no kernels"
    why = unfit if has_bfloat16_products() else absent
    warnings.warn(f"products=bfloat16: {why}; the reference rounds in its place, slowly", stacklevel=2)


@cache
def _compiled_reference() -> Callable[[Inputs], Output]:
    return torch.compile(reference)
