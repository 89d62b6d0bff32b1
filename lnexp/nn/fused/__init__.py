"""Recurrent layers as compiled kernels for the CPU: same arguments and results as `lnexp.nn.reference`, to rounding.

A kernel for CUDA would stand beside this package (`lnexp/nn/triton`), with the same two functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lnexp.nn.fused import call
from lnexp.nn.fused.build import library
from lnexp.nn.sequence import Cell, Output, Stats, Weights


def fits(cell: Cell, w: Weights, x_TBI: Tensor) -> bool:
    """Whether `fused` can run this layer: on the CPU, in float32 or float64, norm none, ln or rms, and a compiler at hand."""
    tensors = [x_TBI, *(p for p in w if p is not None)]
    return (
        cell.norm in call.NORMS
        and x_TBI.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == x_TBI.dtype for t in tensors)
        and not torch.compiler.is_compiling()
        and library() is not None
    )


def fused(
    cell: Cell, w: Weights, x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor | None, lengths_B: Tensor | None, stats: Stats | None = None
) -> Output:
    """As `lnexp.nn.sequence.run`, which see. Differentiable once."""
    (T, B, _), H = x_TBI.shape, h0_BH.shape[1]
    if T == 0 or B == 0:
        return Output(x_TBI.new_zeros(T, B, H), h0_BH, c0_BH, None)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x_TBI, h0_BH, c0_BH, *w)):
        return Output(*Layer.apply(cell, lengths_B, x_TBI, h0_BH, c0_BH, *w), None)
    return Output(*call.forward(cell, w, x_TBI, h0_BH, c0_BH, lengths_B, keep=False)[:3], None)


class Layer(torch.autograd.Function):
    """One layer over a whole sequence as one node of the graph."""

    @staticmethod
    def forward(ctx, cell, lengths_B, x_TBI, h0_BH, c0_BH, *weights):
        out_TBH, h_BH, c_BH, kept = call.forward(cell, Weights(*weights), x_TBI, h0_BH, c0_BH, lengths_B, keep=True)
        ctx.set_materialize_grads(False)
        ctx.cell, ctx.lengths_B = cell, lengths_B
        ctx.save_for_backward(x_TBI, h0_BH, c0_BH, out_TBH, *kept, *weights)
        return out_TBH, h_BH, c_BH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dout_TBH, dh_BH, dc_BH):
        x_TBI, h0_BH, c0_BH, out_TBH, *rest = ctx.saved_tensors
        kept, w = call.Kept(*rest[:4]), Weights(*rest[4:])
        gradients = call.backward(
            ctx.cell, w, x_TBI, h0_BH, c0_BH, ctx.lengths_B, out_TBH, kept, dout_TBH, dh_BH, dc_BH, ctx.needs_input_grad[2]
        )
        return None, None, gradients.x_TBI, gradients.h0_BH, gradients.c0_BH, *gradients.weights
