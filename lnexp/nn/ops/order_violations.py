"""Order violations: how far captions are from being above images in the order of Vendrov et al. (arXiv 1511.06361; paper 6.1).

Shapes: I images, C captions, D dimensions; B a block of images.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lnexp.nn.csrc.build import library
from lnexp.nn.ops import order_violations_cpu as kernel

BLOCK = 1 << 20  # numbers that the plain form holds at once: few enough for a processor's caches


def order_violations(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """E_IC[i, c] = sum_d max(0, s_CD[c, d] - v_ID[i, d])^2, never holding an array [I, C, D]. Differentiable once.

    A compiled kernel on the CPU where a compiler is at hand; plain torch elsewhere, inside `torch.compile`, and if the
    environment variable LNEXP_FUSED is 0. A pair whose incoming gradient is 0 adds nothing to the gradients, not even a NaN.

    Args:
        v_ID: images, float32 or float64, in any layout.
        s_CD: captions, of the same type and on the same device.

    Raises:
        ValueError: v_ID and s_CD do not go together.
    """
    if v_ID.ndim != 2 or s_CD.ndim != 2 or v_ID.shape[1] != s_CD.shape[1]:
        raise ValueError(f"v_ID={tuple(v_ID.shape)}, s_CD={tuple(s_CD.shape)}: must be [I, D] and [C, D]")
    if v_ID.dtype not in (torch.float32, torch.float64) or s_CD.dtype != v_ID.dtype or s_CD.device != v_ID.device:
        got = f"v_ID={v_ID.dtype} on {v_ID.device}, s_CD={s_CD.dtype} on {s_CD.device}"
        raise ValueError(f"{got}: must both be torch.float32, or both torch.float64, on one device")
    compiled = (
        not torch.compiler.is_compiling()
        and os.environ.get("LNEXP_FUSED") != "0"
        and v_ID.device.type == "cpu"
        and library() is not None
    )
    return OrderViolations.apply(v_ID, s_CD, compiled)


class OrderViolations(torch.autograd.Function):
    """All violations as one node of the graph, which keeps no more than its inputs."""

    @staticmethod
    def forward(ctx: Any, v_ID, s_CD, compiled):
        ctx.compiled = compiled
        ctx.save_for_backward(v_ID, s_CD)
        return (kernel.forward if compiled else forward)(v_ID, s_CD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dE_IC):
        v_ID, s_CD = ctx.saved_tensors
        return *(kernel.backward if ctx.compiled else backward)(v_ID, s_CD, dE_IC), None


def forward(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """E_IC in plain torch, block by block."""
    return torch.cat([excess(v_BD, s_CD).square_().sum(2) for v_BD in v_ID.split(images_at_once(s_CD))])


def backward(v_ID: Tensor, s_CD: Tensor, dE_IC: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of v_ID and s_CD in plain torch; the excess is computed again, block by block."""
    B, dv, ds_CD = images_at_once(s_CD), [], torch.zeros_like(s_CD)
    for v_BD, dE_BC in zip(v_ID.split(B), dE_IC.split(B), strict=True):
        dE_BC1 = dE_BC.unsqueeze(2)
        dexcess_BCD = excess(v_BD, s_CD).mul_(2 * dE_BC1).masked_fill_(dE_BC1 == 0, 0)
        dv.append(-dexcess_BCD.sum(1))
        ds_CD += dexcess_BCD.sum(0)
    return torch.cat(dv), ds_CD


def excess(v_BD: Tensor, s_CD: Tensor) -> Tensor:
    """max(0, s - v) [B, C, D]; a NaN stays."""
    return (s_CD - v_BD[:, None]).clamp_(min=0)


def images_at_once(s_CD: Tensor) -> int:
    """Images whose excess over all captions makes a block: one at least, for which it is as large as s_CD."""
    return max(1, BLOCK // max(1, s_CD.numel()))
