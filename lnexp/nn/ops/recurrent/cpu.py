"""Recurrent layers as compiled kernels for the CPU: as `reference`, to rounding.

A kernel for CUDA would stand beside this file (`triton.py`), with the same two functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.recurrent import cpu_call as call
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Output, Stats, Weights


def fits(cell: Cell, w: Weights, x_TBI: Tensor) -> bool:
    """Whether `fused` can run this layer: on the CPU, in float32 or float64, and a compiler at hand.

    Batch normalisation fits in the LSTM of Cooijmans et al. alone, not in its DRAW form nor in the other kinds.
    """
    tensors = [x_TBI, *(p for p in w if p is not None)]
    return (
        (cell.norm != "bn" or (cell.kind == "lstm" and not cell.cell_only))
        and x_TBI.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == x_TBI.dtype for t in tensors)
        and not torch.compiler.is_compiling()
        and library() is not None
    )


def fused(
    cell: Cell,
    w: Weights,
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor | None,
    lengths_B: Tensor | None,
    stats: Stats | None = None,
) -> Output:
    """As `lnexp.nn.ops.recurrent.dispatch.run`, which see. Differentiable once.

    Raises:
        ValueError: a state, a weight or the lengths do not go with x_TBI. (The kernels work on bare addresses.)
    """
    run = call.Sequence(cell, w, x_TBI, h0_BH, c0_BH, lengths_B)
    check(run, stats)
    (T, B, _), H = x_TBI.shape, h0_BH.shape[1]
    if T == 0 or B == 0:
        return Output(x_TBI.new_zeros(T, B, H), h0_BH, c0_BH, call.empty_stats(run) if stats is None else None)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x_TBI, h0_BH, c0_BH, *w)):
        out_TBH, h_BH, c_BH, *measured = Layer.apply(cell, lengths_B, stats, x_TBI, h0_BH, c0_BH, *w)
        return Output(out_TBH, h_BH, c_BH, Stats(*measured) if measured else None)
    return call.forward(run, keep=False, population=stats)[0]


def check(run: call.Sequence, stats: Stats | None) -> None:
    """Raise a ValueError about the first argument whose shape, type or device is not what it must be."""
    (T, B, I), H = run.x_TBI.shape, run.w.weight_hh.shape[1]
    G = GATES[run.cell.kind] * H
    shapes = {
        "h0_BH": (B, H),
        "c0_BH": (B, H),
        "weight_ih": (G, I),
        "weight_hh": (G, H),
        "gain_c": (H,),
        "bias_c": (H,),
    }
    shapes |= {f"{moment}_{place}": (T, H if place == "c" else G) for moment in ("mean", "var") for place in ("ih", "hh", "c")}
    given = {"h0_BH": run.h0_BH, "c0_BH": run.c0_BH, **run.w._asdict(), **({} if stats is None else stats._asdict())}
    for name, t in given.items():
        shape, needed = shapes.get(name, (G,)), name == "c0_BH" and run.cell.kind == "lstm"
        if t is None and not needed:
            continue
        if t is None or tuple(t.shape) != shape or t.dtype != run.x_TBI.dtype or t.device != run.x_TBI.device:
            got = "None" if t is None else f"{tuple(t.shape)} {t.dtype} on {t.device}"
            raise ValueError(f"{name}={got}: must be {shape} {run.x_TBI.dtype} on {run.x_TBI.device}, as x_TBI is")
    lengths_B = run.lengths_B
    if lengths_B is None:
        return
    if lengths_B.dtype != torch.int64 or lengths_B.device.type != "cpu" or tuple(lengths_B.shape) != (B,):
        raise ValueError(f"lengths_B={tuple(lengths_B.shape)} {lengths_B.dtype}: must be ({B},) torch.int64 on the cpu")
    if B > 0 and T > 0 and not (int(lengths_B.min()) >= 1 and int(lengths_B.max()) <= T):
        raise ValueError(f"lengths_B={lengths_B.tolist()}: each must be 1 to {T}")


class Layer(torch.autograd.Function):
    """One layer over a whole sequence as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, cell, lengths_B, population, x_TBI, h0_BH, c0_BH, *weights):
        run = call.Sequence(cell, Weights(*weights), x_TBI, h0_BH, c0_BH, lengths_B)
        (out_TBH, h_BH, c_BH, stats), kept = call.forward(run, keep=True, population=population)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(stats or ()))
        ctx.cell, ctx.lengths_B, ctx.population = cell, lengths_B, population
        ctx.save_for_backward(x_TBI, h0_BH, c0_BH, *weights, out_TBH, *kept, *(stats or ()))
        return out_TBH, h_BH, c_BH, *(stats or ())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d):
        n = 3 + len(Weights._fields)
        x_TBI, h0_BH, c0_BH, *weights = ctx.saved_tensors[:n]
        out_TBH, *rest = ctx.saved_tensors[n:]
        run = call.Sequence(ctx.cell, Weights(*weights), x_TBI, h0_BH, c0_BH, ctx.lengths_B)
        kept, measured = call.Kept(*rest[:4]), rest[4:]
        stats = Stats(*measured) if measured else ctx.population
        gradients = call.backward(run, out_TBH, kept, stats, ctx.population is not None, d[:3], ctx.needs_input_grad[3])
        return None, None, None, *gradients[:3], *gradients.weights
