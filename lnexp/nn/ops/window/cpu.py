"""The windowed LSTM as one compiled loop for the CPU, on one thread. Equal to `reference` to rounding."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import addressable, forms, vjp
from lnexp.nn.ops.recurrent import cpu, cpu_call
from lnexp.nn.ops.recurrent.interface import Stats, Weights
from lnexp.nn.ops.window.interface import Inputs, Output
from lnexp.nn.ops.window.reference import plain_function

workspace = cpu_call.workspace


class Call(ctypes.Structure):
    """`TextWindow` of window.h, field by field."""

    _fields_ = [
        ("layer", cpu_call.Call),
        *((name, ctypes.c_int64) for name in ("symbols", "gaussians", "places")),
        *((name, ctypes.c_void_p) for name in ("codes", "characters", "weight_p", "bias_p", "parameters", "kappa", "w")),
        ("dw", ctypes.c_void_p),
        ("dparameters_p", ctypes.c_void_p),
    ]


def fits(inputs: Inputs) -> bool:
    """Whether the kernels can run this layer: they know its norm, its tensors are `addressable`, and there is a compiler."""
    cell, dtype = inputs.cell, inputs.x_TBD.dtype
    tensors = [t for t in inputs.tensors if t is not None]
    return (
        cpu.knows(cell)
        and cell.products == "float32"
        and dtype in (torch.float32, torch.float64)
        and all(t.dtype == dtype for t in tensors)
        and addressable([*tensors, inputs.codes_BU, inputs.characters_B, inputs.lengths_B, *(inputs.stats or ())])
        and library() is not None
    )


def fused(inputs: Inputs) -> Output:
    """Run the layer, for checked inputs that fit. Differentiable to any order, by `reference` from the second on."""
    h_TBH, w_TBC, *measured = Layer.apply(inputs, *inputs.tensors)
    return Output(h_TBH, w_TBC, Stats(*measured) if measured else None)


class Layer(torch.autograd.Function):
    """The whole sequence as one node of the graph.

    What backward reads is kept by save_for_backward: outputs that are attributes of ctx would form a cycle that is never freed.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Inputs, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        inputs = inputs.with_tensors(*tensors)
        (T, B, D), H, K3, C = inputs.x_TBD.shape, inputs.w.weight_hh.shape[1], len(inputs.bias_p), inputs.symbols
        cell, dtype = inputs.cell, inputs.x_TBD.dtype

        def buffer(*shape: int) -> Tensor:
            return workspace.empty((T, B, *shape), dtype)

        x_TBI = buffer(D + C)
        x_TBI[..., :D] = inputs.x_TBD
        x_TBI[0, :, D:] = 0
        stats = None
        if cell.norm == "bn" and inputs.stats is None:
            stats = Stats(*(inputs.x_TBD.new_zeros(T, n) for n in (4 * H, 4 * H, 4 * H, 4 * H, H, H)))
        sums_h = None if cpu_call.is_joint(cell) else buffer(4 * H)
        moments = buffer(9, 2) if cell.norm in ("ln", "rms") else None
        h_TBH, w_TBC = inputs.x_TBD.new_empty(T, B, H), inputs.x_TBD.new_empty(T, B, C)
        kept = (x_TBI, buffer(4 * H), sums_h, buffer(H), moments, buffer(K3), buffer(K3 // 3))
        call, alive = describe(inputs, stats or inputs.stats, (h_TBH, w_TBC, *kept))
        execute("window_forward", call, dtype)
        del alive
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(stats or ()))
        ctx.inputs = inputs.without_tensors()
        saved = (*tensors, h_TBH, w_TBC, *kept, *(stats or ()))
        ctx.forms = forms(saved)
        ctx.save_for_backward(*saved)
        return h_TBH, w_TBC, *(stats or ())

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        n = 3 + len(Weights._fields)
        inputs = ctx.inputs.with_tensors(*saved[:n])
        if torch.is_grad_enabled() or not addressable([*saved, *d]):
            return None, *vjp(plain_function(ctx.inputs), saved[:n], d[:2])
        if forms(saved) != ctx.forms:
            raise RuntimeError("a hook on saved tensors returned another shape or type than it was given")
        held = [None if t is None else t.contiguous() for t in saved[n : n + 9]]
        stats = Stats(*saved[n + 9 :]) if saved[n + 9 :] else inputs.stats
        return None, *gradients(inputs, stats, held, d[0], d[1])


def describe(inputs: Inputs, stats: Stats | None, held: Sequence[Any]) -> tuple[Call, list[Any]]:
    """The part of a call that both passes share, and what must live as long as it is used.

    Args:
        held: tensors h, w, x with the window, the sums of both terms, cells, moments, the window's parameters, kappa; None
            where the cell has no such thing.
    """
    h_TBH, w_TBC, x_TBI, sums_x, sums_h, cells, moments, parameters, kappa = held
    (T, B, _), zeros_BH = h_TBH.shape, h_TBH.new_zeros(h_TBH.shape[1:])
    run = cpu_call.Sequence(inputs.cell, inputs.w, x_TBI, zeros_BH, zeros_BH, inputs.lengths_B)
    layer, alive = cpu_call.describe(run, stats, T * B)
    layer.population, layer.threads = inputs.stats is not None, 1
    for name, t in (("sums_x", sums_x), ("sums_h", sums_h), ("cells", cells), ("moments", moments)):
        setattr(layer, name, cpu_call.address(t))
        setattr(layer, f"{name}_ring", T)
    layer.out = h_TBH.data_ptr()
    others = [inputs.codes_BU.contiguous(), inputs.characters_B.contiguous()]
    others += [inputs.weight_p.contiguous(), inputs.bias_p.contiguous()]
    addresses = [t.data_ptr() for t in (*others, parameters, kappa, w_TBC)]
    call = Call(layer, inputs.symbols, len(inputs.bias_p) // 3, inputs.codes_BU.shape[1], *addresses)
    return call, [alive, zeros_BH, others]


def gradients(
    inputs: Inputs, stats: Stats | None, held: list[Tensor | None], dh_TBH: Tensor | None, dw_TBC: Tensor | None
) -> list[Tensor | None]:
    """Those of `inputs.tensors`, given those of the outputs (None: zero)."""
    h_TBH, _, x_TBI, *_ = held
    assert h_TBH is not None and x_TBI is not None
    (T, B, H), I, K3, dtype, new = h_TBH.shape, x_TBI.shape[2], len(inputs.bias_p), h_TBH.dtype, h_TBH.new_empty
    x_TBI = x_TBI.clone()  # its padding becomes 0
    call, alive = describe(inputs, stats, [held[0], held[1], x_TBI, *held[3:]])
    layer = call.layer
    dsums_x = workspace.empty((T, B, 4 * H), dtype)
    dsums_h = dsums_x if cpu_call.is_joint(inputs.cell) else workspace.empty((T, B, 4 * H), dtype)
    dx_TBI, dparameters_p = workspace.empty((T, B, I), dtype), new(T, B, K3)
    dh_BH, dc_BH, dparameters = h_TBH.new_zeros(B, H), h_TBH.new_zeros(B, H), new(22 * H)
    if dh_TBH is not None:
        dh_TBH = cpu_call.dense(dh_TBH)
        layer.dout, layer.dout_step, layer.dout_case = dh_TBH.data_ptr(), dh_TBH.stride(0), dh_TBH.stride(1)
    layer.dh, layer.dc, layer.dx = dh_BH.data_ptr(), dc_BH.data_ptr(), dx_TBI.data_ptr()
    layer.dsums_x, layer.dsums_h, layer.dparameters = dsums_x.data_ptr(), dsums_h.data_ptr(), dparameters.data_ptr()
    dw_TBC = None if dw_TBC is None else dw_TBC.contiguous()
    call.dw, call.dparameters_p = cpu_call.address(dw_TBC), dparameters_p.data_ptr()
    execute("window_backward", call, dtype)
    del alive

    dsums_x_NG, dparameters_NP, h_NH = dsums_x.flatten(0, 1), dparameters_p.flatten(0, 1), h_TBH.flatten(0, 1)
    dweight_ih = dsums_x_NG.t() @ x_TBI.flatten(0, 1)
    dweight_hh = dsums_h[1:].flatten(0, 1).t() @ h_TBH[:-1].flatten(0, 1)
    dbias_ih, dbias_hh, dgain_ih, dgain_hh, _, dgain_c, dbias_c = dparameters.split([4 * H] * 5 + [H] * 2)
    dbias_in = None if inputs.w.bias_in is None else dsums_x_NG.sum(0)
    every = [dweight_ih, dweight_hh, dbias_ih, dbias_hh, dbias_in, dgain_ih, dgain_hh, dgain_c, dbias_c, *[None] * 4]
    weights = [None if parameter is None else gradient for parameter, gradient in zip(inputs.w, every, strict=True)]
    dx_TBD = dx_TBI[..., : I - inputs.symbols].contiguous()
    return [dx_TBD, dparameters_NP.t() @ h_NH, dparameters_NP.sum(0), *weights]


def execute(name: str, call: Call, dtype: torch.dtype) -> None:
    """Call a compiled function. Raises a MemoryError where there is no memory for its work."""
    if cpu_call.function(name, dtype)(ctypes.byref(call)):
        raise MemoryError(f"no memory left for {name}: {call.layer.steps} steps of {call.layer.cases} cases")
