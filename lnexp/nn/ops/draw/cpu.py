"""DRAW as one compiled call in each direction. Equal to `reference` to rounding. The loop over glimpses takes no memory.

Shapes: those of `interface`; G = 4 H.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import addressable, forms, vjp, without_autocast
from lnexp.nn.ops.draw.interface import Inputs, Output, Windows
from lnexp.nn.ops.draw.reference import plain_function
from lnexp.nn.ops.recurrent import cpu_step
from lnexp.nn.ops.recurrent.cpu_call import Call, address, function, is_joint, workspace
from lnexp.nn.ops.recurrent.interface import Weights

NORMS = ("none", "ln", "rms")
PLACEMENTS = ("all_gates", "per_gate", "cell_only")
WINDOWS = Windows(side=28, read=2, write=5)  # the sizes for which attention.h is compiled
ROW = 32  # pixels of a padded row of an image
LSTM_BUFFERS = ("sums_x", "sums_h", "cells", "moments", "dsums_x", "dsums_h", "dweight_ih", "dweight_hh", "dparameters")
KEPT_LSTM = LSTM_BUFFERS[:4]
KEPT = ("inputs", "h_enc", "z", "attention", "inked")
LSTMS = ("of_encoder", "of_decoder")


class LstmBuffers(ctypes.Structure):
    """`LstmBuffers` of draw.h, field by field."""

    _fields_ = [(name, ctypes.c_void_p) for name in LSTM_BUFFERS]


class Draw(ctypes.Structure):
    """`Draw` of draw.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("threads", "glimpses", "cases", "hidden", "latents", "ring")),
        *((name, ctypes.POINTER(Call)) for name in ("encoder", "decoder")),
        *((name, ctypes.c_void_p) for name in ("posterior_weight", "posterior_bias", "attention_weight", "attention_bias")),
        *((name, ctypes.c_void_p) for name in ("image", "noise")),
        *((name, LstmBuffers) for name in LSTMS),
        *((name, ctypes.c_void_p) for name in (*KEPT, "canvas", "posterior", "dcanvas", "dposterior", "dattention")),
        *((name, ctypes.c_void_p) for name in ("dposterior_weight", "dposterior_bias", "dattention_weight", "dattention_bias")),
    ]


def fits(inputs: Inputs) -> bool:
    """Whether the kernels can do this run; never with LNEXP_FUSED=0. Images and noise must not need gradients."""
    cell, x_BD, noise_TBZ = inputs.cell, inputs.x_BD, inputs.noise_TBZ
    tensors = [t for t in inputs.tensors if t is not None]
    return (
        cell.kind == "lstm"
        and cell.norm in NORMS
        and cell.placement in PLACEMENTS
        and cell.products == "float32"
        and inputs.windows == WINDOWS
        and inputs.encoder.weight_hr is None
        and inputs.decoder.weight_hr is None
        and x_BD.dtype in (torch.float32, torch.float64)
        and all(t.dtype == x_BD.dtype for t in tensors)
        and not (torch.is_grad_enabled() and (x_BD.requires_grad or noise_TBZ.requires_grad))
        and 0 not in noise_TBZ.shape
        and addressable(tensors)
        and os.environ.get("LNEXP_FUSED", "") in ("", "1")
        and library() is not None
    )


def launch(inputs: Inputs) -> Output:
    """Run what `fits`. Differentiable to any order: `reference` gives derivatives of order two and higher."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs.tensors):
        canvas_BD, posterior_TBP = Glimpses.apply(inputs.without_tensors(), *inputs.tensors)
        return Output(canvas_BD, posterior_TBP, None)
    canvas_BD, posterior_TBP, _ = forward(inputs, keep=False)
    return Output(canvas_BD, posterior_TBP, None)


class Glimpses(torch.autograd.Function):
    """All glimpses as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, run: Inputs, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        canvas_BD, posterior_TBP, kept = forward(run.with_tensors(*tensors), keep=True)
        ctx.set_materialize_grads(False)
        ctx.run, ctx.inputs = run, len(tensors)
        saved = (*tensors, posterior_TBP, *kept)
        ctx.forms = forms(saved)
        ctx.save_for_backward(*saved)
        return canvas_BD, posterior_TBP

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        tensors, (posterior_TBP, *kept) = saved[: ctx.inputs], saved[ctx.inputs :]
        if torch.is_grad_enabled() or not addressable([*saved, *d]):
            return None, *vjp(plain_function(ctx.run.with_tensors(*tensors)), tensors, d)
        if forms(saved) != ctx.forms:
            raise RuntimeError("a hook on saved tensors returned another shape or type than it was given")
        kept = [None if t is None else t.contiguous() for t in kept]
        with without_autocast(tensors[0].device):
            return None, *backward(ctx.run.with_tensors(*tensors), posterior_TBP.contiguous(), kept, d)


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The last canvas [B, D], the posteriors [T, B, P]; and, if `keep`, what `backward` needs (otherwise two glimpses' worth)."""
    (T, B, Z), D = inputs.noise_TBZ.shape, inputs.x_BD.shape[1]
    call, alive = describe(inputs, T + 1 if keep else 2)
    dtype, H, rows = inputs.x_BD.dtype, call.hidden, call.ring * B
    sizes = {"inputs": WINDOWS.seen + H, "h_enc": H, "z": Z, "attention": WINDOWS.attention, "inked": WINDOWS.side * ROW}
    joint, normed = is_joint(inputs.cell), inputs.cell.norm != "none"
    sizes_lstm = {"sums_x": 4 * H, "sums_h": 0 if joint else 4 * H, "cells": H, "moments": 18 if normed else 0}
    image = padded(inputs.x_BD)
    kept: list[Tensor | None] = [image]
    for name, size in sizes.items():
        kept.append(buffer(call, name, rows * size, dtype))
    for lstm in LSTMS:
        for name, size in sizes_lstm.items():
            kept.append(buffer(getattr(call, lstm), name, rows * size, dtype) if size else None)
    canvas, posterior_TBP = image.new_empty(B, WINDOWS.side, ROW), image.new_empty(T, B, 2 * Z)
    call.image, call.canvas, call.posterior = address(image), address(canvas), address(posterior_TBP)
    execute("draw_forward", call, dtype)
    del alive
    return canvas[:, :, : WINDOWS.side].reshape(B, D), posterior_TBP, kept if keep else []


def backward(
    inputs: Inputs, posterior_TBP: Tensor, kept: list[Tensor | None], d: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """The gradients of `inputs.tensors`, given those of canvas and posteriors (None: zero). Overwrites nothing it is given."""
    (T, B, Z), dtype, new = inputs.noise_TBZ.shape, inputs.x_BD.dtype, inputs.x_BD.new_empty
    call, alive = describe(inputs, T + 1)
    H, A, size_G, joint = call.hidden, WINDOWS.attention, T * B * 4 * call.hidden, is_joint(inputs.cell)
    image, *buffers = kept
    for name, t in zip(KEPT, buffers, strict=False):
        setattr(call, name, address(t))
    for k, lstm in enumerate(LSTMS):
        for name, t in zip(KEPT_LSTM, buffers[len(KEPT) + len(KEPT_LSTM) * k :], strict=False):
            setattr(getattr(call, lstm), name, address(t))
    dcanvas_BD, dposterior_TBP = d
    dcanvas = padded(inputs.x_BD.new_zeros(inputs.x_BD.shape) if dcanvas_BD is None else dcanvas_BD)
    dposterior = new(T, B, 2 * Z).zero_() if dposterior_TBP is None else new(T, B, 2 * Z).copy_(dposterior_TBP)
    dattention = new(T + 1, B, A)
    dmaps = new(2 * Z, H), new(2 * Z), new(A, H), new(A)
    given = {"image": image, "posterior": posterior_TBP, "dcanvas": dcanvas, "dposterior": dposterior, "dattention": dattention}
    given |= dict(zip(("dposterior_weight", "dposterior_bias", "dattention_weight", "dattention_bias"), dmaps, strict=True))
    for name, t in given.items():
        setattr(call, name, address(t))
    of_lstm = []
    for lstm, w in zip(LSTMS, (inputs.encoder, inputs.decoder), strict=True):
        fields = getattr(call, lstm)
        alive += [buffer(fields, name, size_G, dtype) for name in (("dsums_x",) if joint else ("dsums_x", "dsums_h"))]
        found = new(4 * H, w.weight_ih.shape[1]), new(4 * H, H), new(5 * 4 * H + 2 * H)
        for name, t in zip(("dweight_ih", "dweight_hh", "dparameters"), found, strict=True):
            setattr(fields, name, address(t))
        of_lstm.append(found)
    execute("draw_backward", call, dtype)
    del alive
    return [None, None, *gradients(inputs.encoder, *of_lstm[0]), *gradients(inputs.decoder, *of_lstm[1]), *dmaps]


def gradients(w: Weights, dweight_ih: Tensor, dweight_hh: Tensor, dparameters: Tensor) -> list[Tensor | None]:
    """The gradients of an LSTM's parameters, in their order; None where it has no such parameter."""
    G, H = w.weight_hh.shape
    dbias_ih, dbias_hh, dgain_ih, dgain_hh, _, dgain_c, dbias_c = dparameters.split([G] * 5 + [H] * 2)
    every = Weights(dweight_ih, dweight_hh, dbias_ih, dbias_hh, None, dgain_ih, dgain_hh, dgain_c, dbias_c)
    return [None if parameter is None else gradient for parameter, gradient in zip(w, every, strict=True)]


def describe(inputs: Inputs, ring: int) -> tuple[Draw, list[Tensor]]:
    """What both passes share, and the tensors that must live as long as it is used.

    Raises:
        ValueError: a size does not fit. (The kernels work on bare addresses.)
    """
    T, B, Z = inputs.noise_TBZ.shape
    H, maps = inputs.encoder.weight_hh.shape[1], inputs.maps
    shapes = {
        "x_BD": (inputs.x_BD, (B, WINDOWS.side**2)),
        "encoder.weight_ih": (inputs.encoder.weight_ih, (4 * H, WINDOWS.seen + H)),
        "decoder.weight_ih": (inputs.decoder.weight_ih, (4 * H, Z)),
        "decoder.weight_hh": (inputs.decoder.weight_hh, (4 * H, H)),
        "posterior_weight": (maps.posterior_weight, (2 * Z, H)),
        "posterior_bias": (maps.posterior_bias, (2 * Z,)),
        "attention_weight": (maps.attention_weight, (WINDOWS.attention, H)),
        "attention_bias": (maps.attention_bias, (WINDOWS.attention,)),
    }
    for name, (t, shape) in shapes.items():
        if tuple(t.shape) != shape:
            raise ValueError(f"{name}.shape={tuple(t.shape)}: must be {shape}")
    (encoder, alive), (decoder, more) = (cpu_step.describe(inputs.cell, w, B) for w in (inputs.encoder, inputs.decoder))
    call = Draw(threads=min(torch.get_num_threads(), B), glimpses=T, cases=B, hidden=H, latents=Z, ring=ring)
    call.encoder, call.decoder = ctypes.pointer(encoder), ctypes.pointer(decoder)
    for name, t in {**maps._asdict(), "noise": inputs.noise_TBZ}.items():
        alive.append(t.contiguous())
        setattr(call, name, address(alive[-1]))
    return call, alive + more


def padded(x_BD: Tensor) -> Tensor:
    """Images [B, S, ROW], with zeros after each row."""
    return F.pad(x_BD.reshape(len(x_BD), WINDOWS.side, WINDOWS.side), (0, ROW - WINDOWS.side))


def buffer(owner: ctypes.Structure, name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Undefined memory, whose address becomes a field of `owner`."""
    t = workspace.empty((size,), dtype)
    setattr(owner, name, t.data_ptr())
    return t


def execute(name: str, call: Draw, dtype: torch.dtype) -> None:
    if function(name, dtype)(ctypes.byref(call)):
        raise MemoryError(f"no memory left for the {name} pass: {call.glimpses} glimpses of {call.cases} cases")
