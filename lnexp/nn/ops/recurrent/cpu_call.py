"""Hand a layer's tensors to the compiled kernels: the two passes over a sequence, without autograd.

Shapes: T time, B batch, I input, H hidden, G gates * H. Rings (see layer.h) hold R steps of a sequence.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Output, Stats, Weights
from lnexp.nn.ops.recurrent.workspace import Workspace

KINDS = {"lstm": 0, "gru": 1, "rnn": 2}
NORMS = {"none": 0, "ln": 1, "rms": 2, "bn": 3}
FORWARD_ROWS = 512  # cases * steps whose input sums are one product: many enough for its speed, few enough for the cache
BACKWARD_ROWS = 256  # the same for the gradients of the weights, for each thread: few enough for the second cache
MOST_BACKWARD_ROWS = 2048
FEW_INPUTS = 32  # up to here W_ih x is cheaper to compute again than to keep
# fmt: off
WHOLE_NUMBERS = [
    "kind", "norm", "cell_norm", "per_gate", "relu", "population", "recompute", "threads",
    "steps", "cases", "inputs", "hidden",
    "x_step", "x_case", "dout_step", "dout_case", "sums_x_ring", "sums_h_ring", "cells_ring", "moments_ring", "chunk",
]
POINTERS = [
    "lengths", "x", "h0", "c0", "packed",
    "weight_ih", "weight_hh", "bias_in", "bias_ih", "bias_hh", "gain_ih", "gain_hh", "gain_c", "bias_c",
    "sums_x", "sums_h", "cells", "moments", "out", "h_n", "c_n",
    "mean_ih", "var_ih", "mean_hh", "var_hh", "mean_c", "var_c",
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
        ("turn", ctypes.c_int64),
        ("bfloat16", ctypes.c_int64),
    ]


class Sequence(NamedTuple):
    """What a layer is run on: the arguments of `lnexp.nn.ops.recurrent.dispatch.run`, but for the statistics."""

    cell: Cell
    w: Weights
    x_TBI: Tensor
    h0_BH: Tensor
    c0_BH: Tensor | None
    lengths_B: Tensor | None


class Kept(NamedTuple):
    """What the forward pass leaves for the backward pass; None where there is no such thing."""

    sums_x_RBG: Tensor | None
    sums_h_RBG: Tensor | None
    cells_RBH: Tensor | None
    moments: Tensor | None


class Gradients(NamedTuple):
    """Those of what goes into a layer; None where nothing goes in, or where no gradient was asked for."""

    x_TBI: Tensor | None
    h0_BH: Tensor
    c0_BH: Tensor | None
    weights: list[Tensor | None]


def dense(t: Tensor) -> Tensor:
    """The tensor itself if its last dimension is dense, otherwise a copy for which that holds."""
    return t if t.stride(-1) == 1 else t.contiguous()


def address(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def steps_at_once(rows: int, T: int, B: int) -> int:
    return max(1, min(T, rows // B))


def is_joint(cell: Cell) -> bool:
    """Whether W_ih x and W_hh h are added before anything else happens to them (`joint` of the cells' headers)."""
    return cell.kind == "rnn" or (cell.kind == "lstm" and cell.gates_norm == "none")


def keeps_input_sums(cell: Cell, x_TBI: Tensor) -> bool:
    return is_joint(cell) or x_TBI.shape[2] > FEW_INPUTS


def describe(run: Sequence, stats: Stats | None, rows: int) -> tuple[Call, dict[str, Tensor | None]]:
    """The part of a Call that both passes share, and the tensors that must live as long as it is used."""
    cell, w, x_TBI, h0_BH, c0_BH, lengths_B = run
    (T, B, I), H, G = x_TBI.shape, h0_BH.shape[1], w.weight_hh.shape[0]
    tensors = {"x": dense(x_TBI), "h0": h0_BH, "c0": c0_BH, "lengths": lengths_B, **w._asdict()}
    tensors |= {} if stats is None else stats._asdict()
    zeros_G, ones_G = x_TBI.new_zeros(G), x_TBI.new_ones(G)
    absent = dict.fromkeys(("bias_ih", "bias_hh", "bias_c"), zeros_G)
    absent |= dict.fromkeys(("gain_ih", "gain_hh", "gain_c"), ones_G)
    for name, t in tensors.items():
        tensors[name] = absent.get(name) if t is None else t if name == "x" else t.contiguous()
    call = Call(
        kind=KINDS[cell.kind],
        norm=NORMS[cell.gates_norm],
        cell_norm=NORMS[cell.cell_norm],
        per_gate=cell.per_gate,
        relu=cell.nonlinearity == "relu",
        threads=torch.get_num_threads(),
        steps=T,
        cases=B,
        inputs=I,
        hidden=H,
        x_step=tensors["x"].stride(0),
        x_case=tensors["x"].stride(1),
        chunk=steps_at_once(rows, T, B),
        eps=cell.eps,
        bfloat16=cell.products == "bfloat16",
        **{name: address(t) for name, t in tensors.items()},
    )
    return call, tensors


@cache
def function(name: str, dtype: torch.dtype) -> Callable[[Any], int]:
    """The compiled function of that name for tensors of that type. Its argument: the address of a Call."""
    return getattr(library(), f"{name}_{str(dtype).removeprefix('torch.')}")


def execute(name: str, call: Call, dtype: torch.dtype) -> None:
    """Call a compiled function. Raises a MemoryError where there is no memory for its work."""
    if function(name, dtype)(ctypes.byref(call)):
        raise MemoryError(f"no memory left for the {name} pass of a recurrent layer: {call.steps} steps of {call.cases} cases")


def empty_stats(run: Sequence) -> Stats | None:
    """Room for the statistics of a batch, where there are any."""
    if run.cell.norm != "bn":
        return None
    (T, _, _), G, H = run.x_TBI.shape, run.w.weight_hh.shape[0], run.h0_BH.shape[1]
    return Stats(*(run.x_TBI.new_zeros(T, n) for n in (G, G, G, G, H, H)))


def forward(run: Sequence, keep: bool, population: Stats | None = None) -> tuple[Output, Kept]:
    """The result; and, if `keep`, what `backward` needs (otherwise only a few steps' worth of buffers).

    Args:
        population: norm "bn": the statistics to normalise with. None: those of the batch, which are returned.
    """
    (T, B, _), H, G = run.x_TBI.shape, run.h0_BH.shape[1], run.w.weight_hh.shape[0]
    cell, dtype = run.cell, run.x_TBI.dtype
    stats = empty_stats(run) if population is None else None
    call, alive = describe(run, population or stats, FORWARD_ROWS)
    call.population = population is not None

    def ring(name: str, steps: int, *shape: int) -> Tensor:
        t = workspace.empty((steps, B, *shape), dtype)
        setattr(call, f"{name}_ring", steps)
        setattr(call, name, t.data_ptr())
        return t

    every, one = (T, T) if keep else (call.chunk, 1)
    kept = Kept(
        ring("sums_x", every, G) if keeps_input_sums(cell, run.x_TBI) else None,
        None if is_joint(cell) else ring("sums_h", one, G),
        ring("cells", one, H) if cell.kind == "lstm" else None,
        ring("moments", one, 2 * GATES[cell.kind] + 1, 2) if cell.norm in ("ln", "rms") else None,
    )
    passing = ring("sums_x", call.chunk, G) if kept.sums_x_RBG is None else None
    out_TBH, h_BH = run.x_TBI.new_empty(T, B, H), run.x_TBI.new_empty(B, H)
    c_BH = run.x_TBI.new_empty(B, H) if cell.kind == "lstm" else None
    call.out, call.h_n, call.c_n = out_TBH.data_ptr(), h_BH.data_ptr(), address(c_BH)
    execute("forward", call, dtype)
    del alive, passing
    return Output(out_TBH, h_BH, c_BH, stats), kept


def backward(
    run: Sequence,
    out_TBH: Tensor,
    kept: Kept,
    stats: Stats | None,
    population: bool,
    d: tuple[Tensor | None, Tensor | None, Tensor | None],
    wants_dx: bool,
) -> Gradients:
    """The gradients, given those of out_TBH, the last h_BH and c_BH (None: zero). Overwrites nothing it is given."""
    (T, B, I), H, G = run.x_TBI.shape, run.h0_BH.shape[1], run.w.weight_hh.shape[0]
    cell, new = run.cell, run.x_TBI.new_empty
    call, alive = describe(run, stats, min(BACKWARD_ROWS * torch.get_num_threads(), MOST_BACKWARD_ROWS))
    call.population = population
    for name, t in zip(("sums_x", "sums_h", "cells", "moments"), kept, strict=True):
        setattr(call, f"{name}_ring", T)
        setattr(call, name, address(t))
    buffers = [workspace.empty((call.chunk, B, G), run.x_TBI.dtype) for _ in range(1 if is_joint(cell) else 2)]
    call.dsums_x, call.dsums_h = buffers[0].data_ptr(), buffers[-1].data_ptr()
    if kept.sums_x_RBG is None:
        buffers.append(workspace.empty((call.chunk, B, G), run.x_TBI.dtype))
        call.sums_x, call.sums_x_ring, call.recompute = buffers[-1].data_ptr(), call.chunk, True

    dout_TBH, dh_BH, dc_BH = d
    if dout_TBH is not None:
        dout_TBH = dense(dout_TBH)
        call.dout, call.dout_step, call.dout_case = dout_TBH.data_ptr(), dout_TBH.stride(0), dout_TBH.stride(1)
    dh0_BH = new(B, H).copy_(dh_BH) if dh_BH is not None else new(B, H).zero_()  # the kernel turns one into the other
    dc0_BH = new(B, H).copy_(dc_BH) if dc_BH is not None else new(B, H).zero_()
    dx_TBI = new(T, B, I) if wants_dx else None
    dweight_ih, dweight_hh, dparameters = new(G, I), new(G, H), new(5 * G + 2 * H)
    call.out, call.dh, call.dc, call.dx = out_TBH.data_ptr(), dh0_BH.data_ptr(), dc0_BH.data_ptr(), address(dx_TBI)
    call.dweight_ih, call.dweight_hh = dweight_ih.data_ptr(), dweight_hh.data_ptr()
    call.dparameters = dparameters.data_ptr()
    execute("backward", call, run.x_TBI.dtype)
    del alive

    dbias_ih, dbias_hh, dgain_ih, dgain_hh, dbias_in, dgain_c, dbias_c = dparameters.split([G] * 5 + [H] * 2)
    every = [dweight_ih, dweight_hh, dbias_ih, dbias_hh, dbias_in, dgain_ih, dgain_hh, dgain_c, dbias_c, *[None] * 4]
    weights = [None if parameter is None else gradient for parameter, gradient in zip(run.w, every, strict=True)]
    return Gradients(dx_TBI, dh0_BH, None if run.c0_BH is None else dc0_BH, weights)
