"""Order violations: how far captions are from being above images in the order of Vendrov et al. (arXiv 1511.06361; paper 6.1).

Shapes: I images, C captions, D dimensions; B a block of images.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import HALF, addressable, common_type, forms, transformed, vjp
from lnexp.nn.ops.order_violations import cpu

BLOCK = 1 << 20  # numbers of a block in the plain form: few enough for a processor's caches


def order_violations(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """E_IC[i, c] = sum_d max(0, s_CD[c, d] - v_ID[i, d])^2, without an array [I, C, D]. Differentiable to any order.

    A compiled kernel for plain CPU tensors; plain torch elsewhere, inside `torch.compile`, without a compiler, and if the
    environment variable LNEXP_FUSED is 0. A pair whose incoming gradient is 0 adds nothing to the gradients, not even a NaN.
    Derivatives of order two and higher, and the transforms of `torch.func`, use an array [I, C, D].

    Args:
        v_ID: images, float32 or float64, in any layout. bfloat16 and float16 are computed, and returned, in float32.
        s_CD: captions, of the same type and on the same device.

    Raises:
        ValueError: shapes, types or devices do not fit.
    """
    if v_ID.ndim != 2 or s_CD.ndim != 2 or v_ID.shape[1] != s_CD.shape[1]:
        raise ValueError(f"v_ID={tuple(v_ID.shape)}, s_CD={tuple(s_CD.shape)}: must be [I, D] and [C, D]")
    dtype = common_type(v_ID, s_CD)
    if dtype is None or s_CD.device != v_ID.device:
        got = f"v_ID={v_ID.dtype} on {v_ID.device}, s_CD={s_CD.dtype} on {s_CD.device}"
        raise ValueError(f"{got}: must both be torch.float32 (or {HALF}), or both torch.float64, on one device")
    v_ID, s_CD = v_ID.to(dtype), s_CD.to(dtype)
    if torch.compiler.is_compiling() or transformed([v_ID, s_CD]):
        return plain(v_ID, s_CD)
    wanted = os.environ.get("LNEXP_FUSED") != "0" and addressable([v_ID, s_CD])
    return OrderViolations.apply(v_ID, s_CD, wanted and library() is not None)


class OrderViolations(torch.autograd.Function):
    """All violations as one node of the graph, which saves its inputs only."""

    @staticmethod
    def forward(ctx: Any, v_ID: Tensor, s_CD: Tensor, compiled: bool) -> Tensor:
        ctx.compiled = compiled
        if compiled:
            ctx.forms = forms([v_ID, s_CD])
        ctx.save_for_backward(v_ID, s_CD)
        return (cpu.forward if compiled else forward)(v_ID, s_CD)

    @staticmethod
    def backward(ctx: Any, dE_IC: Tensor) -> tuple[Tensor | None, ...]:
        v_ID, s_CD = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed([v_ID, s_CD, dE_IC]):
            return *vjp(lambda v_ID, s_CD: [plain(v_ID, s_CD)], [v_ID, s_CD], [dE_IC]), None
        compiled = ctx.compiled and addressable([v_ID, s_CD, dE_IC]) and forms([v_ID, s_CD]) == ctx.forms
        return *(cpu.backward if compiled else backward)(v_ID, s_CD, dE_IC), None


def plain(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """E_IC in one expression that torch differentiates."""
    return (s_CD - v_ID[:, None]).clamp(min=0).square().sum(2)


def forward(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """E_IC in plain torch, block by block."""
    return torch.cat([excess(v_BD, s_CD).square_().sum(2) for v_BD in v_ID.split(block_size(s_CD))])


def backward(v_ID: Tensor, s_CD: Tensor, dE_IC: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of v_ID and s_CD in plain torch; the excess is computed again, block by block."""
    B, dv, ds_CD = block_size(s_CD), [], torch.zeros_like(s_CD)
    for v_BD, dE_BC in zip(v_ID.split(B), dE_IC.split(B), strict=True):
        dE_BC1 = dE_BC.unsqueeze(2)
        dexcess_BCD = excess(v_BD, s_CD).mul_(2 * dE_BC1).masked_fill_(dE_BC1 == 0, 0)
        dv.append(-dexcess_BCD.sum(1))
        ds_CD += dexcess_BCD.sum(0)
    return torch.cat(dv), ds_CD


def excess(v_BD: Tensor, s_CD: Tensor) -> Tensor:
    """max(0, s - v) [B, C, D]; NaN stays NaN."""
    return (s_CD - v_BD[:, None]).clamp_(min=0)


def block_size(s_CD: Tensor) -> int:
    """Number of images in a block, at least one; one image with all captions has as many numbers as s_CD."""
    return max(1, BLOCK // max(1, s_CD.numel()))
