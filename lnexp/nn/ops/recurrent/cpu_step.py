"""Hand one step of a recurrent layer to the compiled kernels.

In training the products with the weights are torch's, which packs no weights for so few rows; everything between the summed
inputs and the new states is one kernel. With `PackedWeights` the whole step is one kernel.

Shapes: B batch, I input, H hidden, G gates * H.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import linear

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import addressable
from lnexp.nn.ops.recurrent import cpu
from lnexp.nn.ops.recurrent.cpu_call import KINDS, NORMS, Call, address, dense, execute, function, is_joint
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Stats, Weights

Kept = tuple[Tensor, Tensor | None, Tensor | None]  # sums_x_BG, sums_h_BG, moments


def fits(cell: Cell, w: Weights, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None) -> bool:
    """Whether the kernels can do this step; never with LNEXP_FUSED=0. Of bn only the LSTM, with both its gates and its cell."""
    return (
        cpu.knows(cell)
        and cell.products == "float32"
        and w.weight_hr is None
        and x_BI.shape[0] > 0
        and reachable(x_BI, h_BH, c_BH, *w)
        and os.environ.get("LNEXP_FUSED", "") in ("", "1")
        and library() is not None
    )


def reachable(x_BI: Tensor, *others: Tensor | None) -> bool:
    """Whether these tensors are `addressable`, and all float32 or all float64."""
    dtype = x_BI.dtype
    return (
        dtype in (torch.float32, torch.float64)
        and all(t is None or t.dtype == dtype for t in others)
        and addressable((x_BI, *others))
    )


@lru_cache(maxsize=64)
def template(cell: Cell, inputs: int, hidden: int) -> Call:
    """What all steps of such a cell have in common."""
    return Call(
        kind=KINDS[cell.kind],
        norm=NORMS[cell.gates_norm],
        cell_norm=NORMS[cell.cell_norm],
        per_gate=cell.per_gate,
        relu=cell.nonlinearity == "relu",
        steps=1,
        inputs=inputs,
        hidden=hidden,
        sums_x_ring=1,
        sums_h_ring=1,
        cells_ring=1,
        moments_ring=1,
        chunk=1,
        eps=cell.eps,
    )


@lru_cache(maxsize=64)
def constants(features: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Zeros for absent biases, ones for absent gains. Only read."""
    return torch.zeros(features, dtype=dtype, device="cpu"), torch.ones(features, dtype=dtype, device="cpu")


def describe(cell: Cell, w: Weights, cases: int) -> tuple[Call, list[Tensor]]:
    """A call but for states and buffers, and the tensors that must live as long as it is used.

    Raises:
        ValueError: the sizes of the weights do not fit together. (The kernels work on bare addresses.)
    """
    (G, hidden), inputs = w.weight_hh.shape, w.weight_ih.shape[1]
    call = Call.from_buffer_copy(template(cell, inputs, hidden))
    zeros, ones = constants(G, w.weight_hh.dtype)
    threads = torch.get_num_threads()
    call.cases, call.threads = cases, threads if cell.norm == "bn" else min(threads, cases)
    if GATES[cell.kind] * hidden != G:
        raise ValueError(f"weight_hh.shape={(G, hidden)}: must be ({GATES[cell.kind]} * hidden, hidden)")
    alive = [zeros, ones]
    sizes = (G * inputs, G * hidden, G, G, G, G, G, hidden, hidden)
    for name, t, size in zip(Weights._fields, w, sizes, strict=False):  # not what `fits` excludes
        if t is None and name != "bias_in":
            t = ones if name.startswith("gain") else zeros
        elif t is not None and t.numel() != size:
            raise ValueError(f"{name}.shape={tuple(t.shape)}: must have {size} elements")
        if t is not None:
            t = t.contiguous()
            alive.append(t)
            setattr(call, name, t.data_ptr())
    return call, alive


def set_stats(call: Call, stats: Stats | None, population: bool) -> None:
    call.population = population
    if stats is not None:
        sizes = (*[4 * call.hidden] * 4, call.hidden, call.hidden)
        for name, t, size in zip(Stats._fields, stats, sizes, strict=True):
            if t is None or t.numel() != size or not t.is_contiguous():
                raise ValueError(f"{name}={None if t is None else tuple(t.shape)}: must have {size} elements")
            setattr(call, name, t.data_ptr())


def forward(
    cell: Cell, w: Weights, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None, population: Stats | None
) -> tuple[Tensor, Tensor | None, Stats | None, Kept]:
    """The new states, the statistics of the batch (norm "bn" without `population`), and what `backward` needs."""
    B, H = h_BH.shape
    G, new = w.weight_hh.shape[0], x_BI.new_empty
    sums_x_BG = linear(x_BI, w.weight_ih, w.bias_in)
    sums_h_BG = None
    if is_joint(cell):
        sums_x_BG.addmm_(h_BH, w.weight_hh.t())
    else:
        sums_h_BG = linear(h_BH, w.weight_hh)
    moments = new(B, 2 * GATES[cell.kind] + 1, 2) if cell.norm in ("ln", "rms") else None
    stats = None
    if cell.norm == "bn" and population is None:
        stats = Stats(*(new(1, n) for n in (G, G, G, G, H, H)))
    h_BH, c_BH = h_BH.contiguous(), None if c_BH is None else c_BH.contiguous()
    h_new_BH, c_new_BH = new(B, H), None if c_BH is None else new(B, H)
    call, alive = describe(cell, w, B)
    set_stats(call, population or stats, population is not None)
    call.sums_x, call.sums_h, call.moments = address(sums_x_BG), address(sums_h_BG), address(moments)
    call.h0, call.c0, call.out, call.cells = address(h_BH), address(c_BH), address(h_new_BH), address(c_new_BH)
    execute("step_forward", call, x_BI.dtype)
    del alive
    return h_new_BH, c_new_BH, stats, (sums_x_BG, sums_h_BG, moments)


def backward(
    cell: Cell,
    w: Weights,
    x_BI: Tensor,
    h_BH: Tensor,
    c_BH: Tensor | None,
    h_new_BH: Tensor,
    c_new_BH: Tensor | None,
    kept: Sequence[Tensor | None],
    stats: Stats | None,
    population: bool,
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of x_BI, h_BH, c_BH and the weights, given those of the new states (None: zero)."""
    B, H = h_BH.shape
    G, new = w.weight_hh.shape[0], x_BI.new_empty
    # Copies, as the kernel overwrites them.
    dh_BH, dc_BH = (new(B, H).zero_() if t is None else t.clone(memory_format=torch.contiguous_format) for t in d)
    dsums_x_BG = dsums_h_BG = new(B, G)
    if not is_joint(cell):
        dsums_h_BG = new(B, G)
    dparameters = new(5 * G + 2 * H)
    h_dense_BH, c_dense_BH = h_BH.contiguous(), None if c_BH is None else c_BH.contiguous()
    call, alive = describe(cell, w, B)
    set_stats(call, stats, population)
    call.sums_x, call.sums_h, call.moments = map(address, kept)
    call.h0, call.c0, call.out, call.cells = map(address, (h_dense_BH, c_dense_BH, h_new_BH, c_new_BH))
    call.dh, call.dc, call.dsums_x, call.dsums_h = map(address, (dh_BH, dc_BH, dsums_x_BG, dsums_h_BG))
    call.dparameters = address(dparameters)
    execute("step_backward", call, x_BI.dtype)
    del alive

    dx_BI = torch.mm(dsums_x_BG, w.weight_ih) if wanted[0] else None
    dh0_BH = None
    if wanted[1]:  # the GRU also carries h on
        dh0_BH = torch.addmm(dh_BH, dsums_h_BG, w.weight_hh) if cell.kind == "gru" else dsums_h_BG @ w.weight_hh
    dweight_ih = torch.mm(dsums_x_BG.t(), x_BI) if wanted[3] else None
    dweight_hh = torch.mm(dsums_h_BG.t(), h_BH) if wanted[4] else None
    dbias_ih, dbias_hh, dgain_ih, dgain_hh, _, dgain_c, dbias_c = dparameters.split([G] * 5 + [H] * 2)
    dbias_in = None if w.bias_in is None else dsums_x_BG.sum(dim=0)
    every = [dweight_ih, dweight_hh, dbias_ih, dbias_hh, dbias_in, dgain_ih, dgain_hh, dgain_c, dbias_c, *[None] * 4]
    gradients = [None if parameter is None else gradient for parameter, gradient in zip(w, every, strict=True)]
    return [dx_BI, dh0_BH, None if c_BH is None else dc_BH, *gradients]


class PackedWeights:
    """The weights of a cell, packed once: a step is one compiled call without gradients.

    Args:
        population: norm "bn": statistics [M, features] of M steps; later steps use the last one's.
    """

    def __init__(self, cell: Cell, w: Weights, population: Stats | None) -> None:
        self.cell, self.dtype = cell, w.weight_hh.dtype
        G = len(w.weight_hh)
        self.population = None if population is None else Stats(*(None if t is None else t.contiguous() for t in population))
        self.call, self.alive = describe(cell, w, 1)
        size = function("packed_size", self.dtype)(ctypes.byref(self.call))
        self.packed = torch.empty(size, dtype=self.dtype, device="cpu")
        self.call.packed = self.packed.data_ptr()
        execute("pack", self.call, self.dtype)
        self.run = function("forward", self.dtype)
        # Scratch of one case: the summed inputs, the moments.
        self.sums = G if is_joint(cell) else 2 * G
        self.scratch = self.sums + (4 * GATES[cell.kind] + 2 if cell.norm in ("ln", "rms") else 0)
        self.idle: dict[int, list[tuple[Call, Tensor]]] = {}  # calls and their scratch, by number of cases

    def prepare(self, cases: int) -> tuple[Call, Tensor]:
        """A call for that many cases but for states, input and threads, and its scratch."""
        call, itemsize = Call.from_buffer_copy(self.call), self.dtype.itemsize
        scratch = torch.empty(cases * self.scratch, dtype=self.dtype, device="cpu")
        call.cases = cases
        call.sums_x = scratch.data_ptr()
        call.sums_h = call.sums_x + cases * (self.sums // 2) * itemsize
        if self.scratch > self.sums:
            call.moments = call.sums_x + cases * self.sums * itemsize
        call.population = self.population is not None
        return call, scratch

    def step(self, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None, t: int) -> tuple[Tensor, Tensor | None]:
        """The new states. The arguments must be `reachable` and of the right shapes."""
        x_BI, h_BH, B = dense(x_BI), h_BH.contiguous(), x_BI.shape[0]
        idle = self.idle.setdefault(B, [])
        try:
            call, scratch = idle.pop()  # nobody else has it: threads may step at the same time
        except IndexError:
            call, scratch = self.prepare(B)
        threads = torch.get_num_threads()
        call.threads = threads if self.population is not None else min(threads, B)
        call.x_case, call.x, call.h0 = x_BI.stride(0), x_BI.data_ptr(), h_BH.data_ptr()
        h_new_BH, c_new_BH = torch.empty_like(h_BH), None
        call.out = call.h_n = h_new_BH.data_ptr()
        if c_BH is not None:
            c_BH = c_BH.contiguous()
            c_new_BH = torch.empty_like(c_BH)
            call.c0 = c_BH.data_ptr()
            call.cells = call.c_n = c_new_BH.data_ptr()
        if self.population is not None:
            for name, rows in self.population._asdict().items():
                if rows is not None:
                    setattr(call, name, rows.data_ptr() + min(t, len(rows) - 1) * rows.stride(0) * self.dtype.itemsize)
        if self.run(ctypes.byref(call)):
            raise MemoryError("no memory left for a step of a recurrent cell")
        call.turn ^= 1
        idle.append((call, scratch))
        return h_new_BH, c_new_BH
