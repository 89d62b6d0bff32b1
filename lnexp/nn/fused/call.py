"""Hand a layer's tensors to the compiled kernels: the two passes over a sequence, without autograd.

Shapes: T time, B batch, I input, H hidden, G gates * H. Rings (see layer.h) hold R steps of a sequence.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from lnexp.nn.fused.build import library
from lnexp.nn.fused.workspace import Workspace
from lnexp.nn.sequence import GATES, Cell, Weights

KINDS = {"lstm": 0, "gru": 1, "rnn": 2}
NORMS = {"none": 0, "ln": 1, "rms": 2}
FORWARD_ROWS = 512  # cases * steps whose input sums are one product: many enough for its speed, few enough for the cache
BACKWARD_ROWS = 1024  # the same for the gradients of the weights
FEW_INPUTS = 32  # up to here W_ih x is cheaper to compute again than to keep
# fmt: off
WHOLE_NUMBERS = [
    "kind", "norm", "cell_norm", "per_gate", "relu", "threads", "steps", "cases", "inputs", "hidden",
    "x_step", "x_case", "dout_step", "dout_case", "sums_x_ring", "sums_h_ring", "cells_ring", "moments_ring", "chunk",
]
POINTERS = [
    "lengths", "x", "h0", "c0",
    "weight_ih", "weight_hh", "bias_in", "bias_ih", "bias_hh", "gain_ih", "gain_hh", "gain_c", "bias_c",
    "sums_x", "sums_h", "cells", "moments", "out", "h_n", "c_n",
    "dout", "dh", "dc", "dsums_x", "dsums_h", "dx", "dweight_ih", "dweight_hh", "dparameters",
]
# fmt: on

workspace = Workspace()


class Call(ctypes.Structure):
    """`Call` of layer.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in WHOLE_NUMBERS),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in POINTERS),
    ]


class Kept(NamedTuple):
    """What the forward pass leaves for the backward pass; None where there is no such thing."""

    sums_x_RBG: Tensor
    sums_h_RBG: Tensor | None
    cells_RBH: Tensor | None
    moments: Tensor | None


class Gradients(NamedTuple):
    x_TBI: Tensor | None
    h0_BH: Tensor
    c0_BH: Tensor | None
    weights: Weights


def dense(t: Tensor) -> Tensor:
    """The tensor itself if its last dimension is dense, otherwise a copy for which that holds."""
    return t if t.stride(-1) == 1 else t.contiguous()


def steps_at_once(rows: int, T: int, B: int) -> int:
    return max(1, min(T, rows // B))


def is_joint(cell: Cell) -> bool:
    """Whether W_ih x and W_hh h are added before anything else happens to them (`joint` of the cells' headers)."""
    return cell.kind == "rnn" or (cell.kind == "lstm" and cell.gates_norm == "none")


def keeps_input_sums(cell: Cell, x_TBI: Tensor) -> bool:
    T, B, I = x_TBI.shape
    return is_joint(cell) or I > FEW_INPUTS or T <= steps_at_once(BACKWARD_ROWS, T, B)


def describe(cell: Cell, w: Weights, x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor | None, lengths_B: Tensor | None, chunk_rows: int):
    """The part of a Call that both passes share, and the tensors that must live as long as it is used."""
    (T, B, I), H = x_TBI.shape, h0_BH.shape[1]
    G = GATES[cell.kind] * H
    zeros, ones = x_TBI.new_zeros(G), x_TBI.new_ones(G)
    tensors = dict(
        x=x_TBI, h0=h0_BH.contiguous(), c0=None if c0_BH is None else c0_BH.contiguous(),
        lengths=None if lengths_B is None else lengths_B.contiguous(),
        **{name: t if t is None else t.contiguous() for name, t in w._asdict().items()},
    )  # fmt: skip
    for name in ("bias_ih", "bias_hh", "bias_c"):
        tensors[name] = zeros if tensors[name] is None else tensors[name]
    for name in ("gain_ih", "gain_hh", "gain_c"):
        tensors[name] = ones if tensors[name] is None else tensors[name]
    call = Call(
        kind=KINDS[cell.kind], norm=NORMS[cell.gates_norm], cell_norm=NORMS[cell.norm], per_gate=cell.per_gate,
        relu=cell.nonlinearity == "relu", threads=torch.get_num_threads(), steps=T, cases=B, inputs=I, hidden=H,
        x_step=x_TBI.stride(0), x_case=x_TBI.stride(1), chunk=steps_at_once(chunk_rows, T, B), eps=cell.eps,
        **{name: address(t) for name, t in tensors.items()},
    )  # fmt: skip
    return call, tensors


def address(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def run(direction: str, call: Call, dtype: torch.dtype) -> None:
    getattr(library(), f"{direction}_{str(dtype).removeprefix('torch.')}")(ctypes.byref(call))


def forward(
    cell: Cell, w: Weights, x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor | None, lengths_B: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor | None, Kept]:
    """out_TBH, the last h_BH and c_BH; and, if `keep`, what `backward` needs (otherwise only a few steps' worth of buffers)."""
    x_TBI = dense(x_TBI)
    (T, B, _), H, G = x_TBI.shape, h0_BH.shape[1], w.weight_hh.shape[0]
    call, alive = describe(cell, w, x_TBI, h0_BH, c0_BH, lengths_B, FORWARD_ROWS)

    def ring(name: str, steps: int, *shape: int) -> Tensor:
        t = workspace.empty((steps, B, *shape), x_TBI.dtype)
        setattr(call, f"{name}_ring", steps)
        setattr(call, name, t.data_ptr())
        return t

    every, one = (T, T) if keep else (call.chunk, 1)
    kept = Kept(
        ring("sums_x", every if keeps_input_sums(cell, x_TBI) else call.chunk, G),
        None if is_joint(cell) else ring("sums_h", one, G),
        ring("cells", one, H) if cell.kind == "lstm" else None,
        ring("moments", one, 2 * GATES[cell.kind] + 1, 2) if cell.norm != "none" else None,
    )
    out_TBH = x_TBI.new_empty(T, B, H)
    h_BH, c_BH = torch.empty_like(alive["h0"]), None if c0_BH is None else torch.empty_like(alive["c0"])
    call.out, call.h_n, call.c_n = out_TBH.data_ptr(), h_BH.data_ptr(), address(c_BH)
    run("forward", call, x_TBI.dtype)
    return out_TBH, h_BH, c_BH, kept


def backward(
    cell: Cell, w: Weights, x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor | None, lengths_B: Tensor | None,
    out_TBH: Tensor, kept: Kept, dout_TBH: Tensor | None, dh_BH: Tensor | None, dc_BH: Tensor | None, wants_dx: bool,
) -> Gradients:  # fmt: skip
    """The gradients, given those of out_TBH and of the last h_BH and c_BH (None: zero). Nothing that is given is overwritten."""
    x_TBI, dout_TBH = dense(x_TBI), None if dout_TBH is None else dense(dout_TBH)
    (T, B, I), H, G = x_TBI.shape, h0_BH.shape[1], w.weight_hh.shape[0]
    call, alive = describe(cell, w, x_TBI, h0_BH, c0_BH, lengths_B, BACKWARD_ROWS)
    for name, t in zip(("sums_x", "sums_h", "cells", "moments"), kept, strict=True):
        if t is not None:
            setattr(call, f"{name}_ring", T)
            setattr(call, name, t.data_ptr())
    buffers = [workspace.empty((call.chunk, B, G), x_TBI.dtype) for _ in range(1 if is_joint(cell) else 2)]
    call.dsums_x, call.dsums_h = buffers[0].data_ptr(), buffers[-1].data_ptr()
    if not keeps_input_sums(cell, x_TBI):
        buffers.append(workspace.empty((call.chunk, B, G), x_TBI.dtype))
        call.sums_x, call.sums_x_ring = buffers[-1].data_ptr(), call.chunk

    dh0_BH = torch.zeros_like(alive["h0"]) if dh_BH is None else dh_BH.clone(memory_format=torch.contiguous_format)
    dc0_BH = None
    if c0_BH is not None:
        dc0_BH = torch.zeros_like(alive["c0"]) if dc_BH is None else dc_BH.clone(memory_format=torch.contiguous_format)
    dx_TBI = x_TBI.new_empty(T, B, I) if wants_dx else None
    dweight_ih, dweight_hh, dparameters = x_TBI.new_empty(G, I), x_TBI.new_empty(G, H), x_TBI.new_empty(5 * G + 2 * H)
    if dout_TBH is not None:
        call.dout, call.dout_step, call.dout_case = dout_TBH.data_ptr(), dout_TBH.stride(0), dout_TBH.stride(1)
    call.out, call.dh, call.dc, call.dx = out_TBH.data_ptr(), dh0_BH.data_ptr(), address(dc0_BH), address(dx_TBI)
    call.dweight_ih, call.dweight_hh, call.dparameters = dweight_ih.data_ptr(), dweight_hh.data_ptr(), dparameters.data_ptr()
    run("backward", call, x_TBI.dtype)

    dbias_ih, dbias_hh, dgain_ih, dgain_hh, dbias_in, dgain_c, dbias_c = dparameters.split([G] * 5 + [H] * 2)
    every = Weights(dweight_ih, dweight_hh, dbias_ih, dbias_hh, dbias_in, dgain_ih, dgain_hh, dgain_c, dbias_c)
    return Gradients(dx_TBI, dh0_BH, dc0_BH, Weights(*(None if p is None else g for p, g in zip(w, every, strict=True))))
