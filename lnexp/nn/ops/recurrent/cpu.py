"""Recurrent layers as compiled kernels for the CPU. Equal to `reference` to rounding.

A kernel for CUDA would be a file beside this one, `triton.py`, with the same two functions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import addressable, forms, vjp
from lnexp.nn.ops.recurrent import cpu_call as call
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Output, Stats, Weights
from lnexp.nn.ops.recurrent.reference import plain_function

NORMS = {"lstm": ("none", "ln", "rms", "bn"), "gru": ("none", "ln", "rms"), "rnn": ("none", "ln", "rms")}
PLACEMENTS = ("all_gates", "per_gate", "cell_only", "bias_inside", "gates_only")


def knows(cell: Cell) -> bool:
    """Whether there is a kernel for this cell. Of bn: the LSTM with its norm on gates and cell."""
    return (
        cell.norm in NORMS.get(cell.kind, ())
        and cell.placement in PLACEMENTS
        and (cell.norm, cell.placement) not in (("bn", "cell_only"), ("bn", "gates_only"))
    )


def fits(inputs: Inputs) -> bool:
    """Whether `fused` can run this layer: the kernels know it, its tensors are `addressable`, and there is a compiler.

    Not for an empty batch or a projection.
    """
    cell, x_TBI = inputs.cell, inputs.x_TBI
    tensors = [t for t in inputs.tensors if t is not None]
    return (
        knows(cell)
        and inputs.w.weight_hr is None
        and x_TBI.dtype in (torch.float32, torch.float64)
        and all(t.dtype == x_TBI.dtype for t in tensors)
        and (cell.products == "float32" or x_TBI.dtype == torch.float32)
        and x_TBI.shape[0] > 0
        and x_TBI.shape[1] > 0
        and addressable([*tensors, inputs.lengths_B, *(inputs.stats or ())])
        and library() is not None
        and (cell.products == "float32" or has_bfloat16_products())
    )


@cache
def has_bfloat16_products() -> bool:
    """Whether there are kernels whose processor multiplies in bfloat16 (x86: avx512_bf16)."""
    kernels = library()
    return kernels is not None and bool(kernels.has_bfloat16_products())


def fused(inputs: Inputs) -> Output:
    """Run the layer. Differentiable to any order: `reference` gives derivatives of order two and higher.

    Raises:
        ValueError: the kernels do not know the layer, or a state, a weight or the lengths do not fit x. (They work on addresses.)
    """
    if not fits(inputs):
        raise ValueError(f"{inputs.cell} on x_TBI={tuple(inputs.x_TBI.shape)} {inputs.x_TBI.dtype}: no kernel fits")
    return launch(inputs)


def launch(inputs: Inputs) -> Output:
    """`fused` for inputs that are known to fit."""
    check(inputs)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs.tensors):
        out_TBH, h_BH, c_BH, *measured = Layer.apply(inputs, *inputs.tensors)
        return Output(out_TBH, h_BH, c_BH, Stats(*measured) if measured else None)
    return call.forward(sequence(inputs), keep=False, population=inputs.stats)[0]


def sequence(inputs: Inputs) -> call.Sequence:
    return call.Sequence(*inputs[:6])


def check(inputs: Inputs) -> None:
    """Raise a ValueError about the first argument whose shape, type or device is wrong."""
    x_TBI, lengths_B = inputs.x_TBI, inputs.lengths_B
    (T, B, I), H = x_TBI.shape, inputs.w.weight_hh.shape[1]
    G = GATES[inputs.cell.kind] * H
    shapes = {
        "h0_BH": (B, H),
        "c0_BH": (B, H),
        "weight_ih": (G, I),
        "weight_hh": (G, H),
        "gain_c": (H,),
        "bias_c": (H,),
    }
    shapes |= {f"{moment}_{place}": (T, H if place == "c" else G) for moment in ("mean", "var") for place in ("ih", "hh", "c")}
    stats = {} if inputs.stats is None else inputs.stats._asdict()
    given = {"h0_BH": inputs.h0_BH, "c0_BH": inputs.c0_BH, **inputs.w._asdict(), **stats}
    for name, t in given.items():
        shape, needed = shapes.get(name, (G,)), name == "c0_BH" and inputs.cell.kind == "lstm"
        if t is None and not needed:
            continue
        if t is None or tuple(t.shape) != shape or t.dtype != x_TBI.dtype or t.device != x_TBI.device:
            got = "None" if t is None else f"{tuple(t.shape)} {t.dtype} on {t.device}"
            raise ValueError(f"{name}={got}: must be {shape} {x_TBI.dtype} on {x_TBI.device}, as x_TBI is")
    if lengths_B is None:
        return
    if lengths_B.dtype != torch.int64 or tuple(lengths_B.shape) != (B,):
        raise ValueError(f"lengths_B={tuple(lengths_B.shape)} {lengths_B.dtype}: must be ({B},) torch.int64 on the cpu")
    if not (int(lengths_B.min()) >= 1 and int(lengths_B.max()) <= T):
        raise ValueError(f"lengths_B={lengths_B.tolist()}: each must be 1 to {T}")


class Layer(torch.autograd.Function):
    """One layer over a whole sequence as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Inputs, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        (out_TBH, h_BH, c_BH, stats), kept = call.forward(sequence(inputs.with_tensors(*tensors)), True, inputs.stats)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(stats or ()))
        ctx.inputs = inputs.without_tensors()
        saved = (*tensors, out_TBH, *kept, *(stats or ()))
        ctx.forms = forms(saved)
        ctx.save_for_backward(*saved)
        return out_TBH, h_BH, c_BH, *(stats or ())

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing allows no more
        n = 3 + len(Weights._fields)
        inputs = ctx.inputs.with_tensors(*saved[:n])
        if torch.is_grad_enabled() or not addressable([*saved, *d]):
            return None, *vjp(plain_function(ctx.inputs), saved[:n], d)
        if forms(saved) != ctx.forms:
            raise RuntimeError("a hook on saved tensors returned another shape or type than it was given")
        out_TBH, *rest = saved[n:]
        kept = call.Kept(*(None if t is None else t.contiguous() for t in rest[:4]))
        measured = rest[4:]
        stats = Stats(*measured) if measured else inputs.stats
        wants_dx, population = ctx.needs_input_grad[1], inputs.stats is not None
        found = call.backward(sequence(inputs), out_TBH.contiguous(), kept, stats, population, (d[0], d[1], d[2]), wants_dx)
        return None, *found[:3], *found.weights
