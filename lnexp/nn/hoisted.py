"""The recurrent layers in plain torch calls, fast: what runs without a compiler, on any device. Equal to `reference` to rounding.

Three things make it fast. The input terms of all steps, and their layer normalisation, are one call each. So is the weight
gradient of all steps (`deferred`). Padding is never computed: with lengths, cases are sorted by length and the batch
shrinks from step to step, as in torch's packed sequences; so batch statistics are those of real cases by construction.

Shapes: T time, B batch, I input, H hidden, G gates * H, N all real (step, case) pairs, step after step; b the cases of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lnexp.nn.deferred import RecurrentProduct
from lnexp.nn.sequence import Cell, Output, Stats, Weights
from lnexp.nn.step_norm import CaseNorm, UnitNorm

Norms = dict[str, UnitNorm | CaseNorm]  # by place: "ih" the input term, "hh" the recurrent one, "c" the new cell


class Plan(NamedTuple):
    """What the loop over time needs of a cell."""

    rows_NG: Tensor  # added to the recurrent products
    step: Callable[[int, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]  # t, product_bG, h_bH, c_bH -> h, c


def hoisted(
    cell: Cell, w: Weights, x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor | None, lengths_B: Tensor | None, stats: Stats | None = None
) -> Output:
    """Arguments and result: `lnexp.nn.sequence.run`. Differentiable once, as torch's own fused layers are."""
    steps, cases, _ = x_TBI.shape
    if steps == 0:
        return Output(h0_BH[None][:0], h0_BH, c0_BH, None)
    if lengths_B is None or bool((lengths_B == steps).all()):
        out_NH, h_BH, c_BH, seen = loop(cell, w, x_TBI.flatten(0, 1), [cases] * steps, h0_BH, c0_BH, stats)
        return Output(out_NH.view(steps, cases, h0_BH.shape[1]), h_BH, c_BH, seen)
    lengths_B, order_B = lengths_B.sort(descending=True, stable=True)
    back_B = order_B.argsort()
    packed = pack_padded_sequence(x_TBI[:, order_B], lengths_B)
    h_BH, c_BH = h0_BH[order_B], None if c0_BH is None else c0_BH[order_B]
    out_NH, h_BH, c_BH, seen = loop(cell, w, packed.data, packed.batch_sizes.tolist(), h_BH, c_BH, stats)
    out_TBH, _ = pad_packed_sequence(PackedSequence(out_NH, packed.batch_sizes), total_length=steps)
    return Output(out_TBH[:, back_B], h_BH[back_B], None if c_BH is None else c_BH[back_B], seen)


def loop(
    cell: Cell, w: Weights, x_NI: Tensor, sizes: list[int], h_bH: Tensor, c_bH: Tensor | None, stats: Stats | None
) -> Output:
    """All steps, step t with the first sizes[t] cases. The result's output is [N, H]."""
    norms = step_norms(cell, w, h_bH.shape[1], stats)
    rows_NG, step = {"lstm": lstm, "gru": gru, "rnn": rnn}[cell.kind](cell, w, norms, x_NI, sizes)
    product = RecurrentProduct(w.weight_hh, rows_NG, sizes)
    ended, outs = [], []  # ended: the last states of the cases that the batch has lost
    for t, size in enumerate(sizes):
        if size < h_bH.shape[0]:
            ended.append((h_bH[size:], None if c_bH is None else c_bH[size:]))
            h_bH, c_bH = h_bH[:size], None if c_bH is None else c_bH[:size]
        h_bH, c_bH = step(t, product(t, h_bH), h_bH, c_bH)
        outs.append(h_bH)
    h_BH = torch.cat([h_bH, *(h for h, _ in reversed(ended))])
    if c_bH is None:
        out_NH, h_BH = product.close(torch.cat(outs), h_BH)
        return Output(out_NH, h_BH, None, batch_stats(norms))
    out_NH, h_BH, c_BH = product.close(torch.cat(outs), h_BH, torch.cat([c_bH, *(c for _, c in reversed(ended))]))
    return Output(out_NH, h_BH, c_BH, batch_stats(norms))


def lstm(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> Plan:
    """Equations (20)-(22), (29)-(31)."""
    if cell.gates_norm == "none":
        rows_NG, inputs_bG = F.linear(x_NI, w.weight_ih, total(w.bias_ih, w.bias_hh, w.bias_in)), None
    else:
        rows_NG, inputs_bG = nothing(w, x_NI), normalised_inputs(w, norms["ih"], x_NI, sizes)

    def step(t: int, a_bG: Tensor, h_bH: Tensor, c_bH: Tensor | None) -> tuple[Tensor, Tensor]:
        if inputs_bG is not None:
            a_bG = norms["hh"](t, a_bG) + inputs_bG[t]
        i, f, g, o = a_bG.chunk(4, dim=1)
        c_bH = f.sigmoid() * c_bH + i.sigmoid() * g.tanh()
        seen_bH = norms["c"](t, c_bH) if "c" in norms else c_bH
        return o.sigmoid() * seen_bH.tanh(), c_bH

    return Plan(rows_NG, step)


def gru(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> Plan:
    """Equations (23)-(28)."""
    if cell.norm == "none":
        inputs_bG = F.linear(x_NI, w.weight_ih, total(w.bias_ih, w.bias_in)).split(sizes)
        rows_NG = nothing(w, x_NI) if w.bias_hh is None else w.bias_hh.expand(len(x_NI), -1)
    else:
        rows_NG, inputs_bG = nothing(w, x_NI), normalised_inputs(w, norms["ih"], x_NI, sizes)
    hidden = w.weight_hh.shape[1]

    def step(t: int, a_bG: Tensor, h_bH: Tensor, c_bH: Tensor | None) -> tuple[Tensor, None]:
        rz_hh, n_hh = (norms["hh"](t, a_bG) if norms else a_bG).split([2 * hidden, hidden], dim=1)
        rz_ih, n_ih = inputs_bG[t].split([2 * hidden, hidden], dim=1)
        r, z = (rz_ih + rz_hh).sigmoid().chunk(2, dim=1)
        n = torch.addcmul(n_ih, r, n_hh).tanh()
        return torch.lerp(n, h_bH, z), None

    return Plan(rows_NG, step)


def rnn(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> Plan:
    """Equation (4): the input terms enter the product, as the norm is on the sum."""
    rows_NG = F.linear(x_NI, w.weight_ih, w.bias_in if norms else total(w.bias_ih, w.bias_hh, w.bias_in))

    def step(t: int, a_bG: Tensor, h_bH: Tensor, c_bH: Tensor | None) -> tuple[Tensor, None]:
        a_bG = norms["hh"](t, a_bG) if norms else a_bG
        return a_bG.relu() if cell.nonlinearity == "relu" else a_bG.tanh(), None

    return Plan(rows_NG, step)


def normalised_inputs(w: Weights, norm: UnitNorm | CaseNorm, x_NI: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """The normalised input terms of each step: in one call, unless each step has statistics of its own."""
    a_NG = F.linear(x_NI, w.weight_ih, w.bias_in)
    if isinstance(norm, UnitNorm):
        return norm(0, a_NG).split(sizes)
    return [norm(t, a_bG) for t, a_bG in enumerate(a_NG.split(sizes))]


def nothing(w: Weights, x_NI: Tensor) -> Tensor:
    """Zeros [N, G] that take no memory."""
    return w.weight_hh.new_zeros(()).expand(len(x_NI), len(w.weight_hh))


def total(*biases: Tensor | None) -> Tensor | None:
    """The sum of the biases that are there."""
    present = [bias for bias in biases if bias is not None]
    return sum(present[1:], start=present[0]) if present else None


def step_norms(cell: Cell, w: Weights, hidden_size: int, stats: Stats | None) -> Norms:
    """The normalisations that the cell has, by place. Biases that are simply added up are added up beforehand."""
    places: dict[str, tuple[Tensor | None, Tensor | None, list[int]]] = {}
    groups = cell.groups(hidden_size)
    if cell.kind == "gru":
        places = {"ih": (w.gain_ih, w.bias_ih, groups), "hh": (w.gain_hh, w.bias_hh, groups)}
    elif cell.kind == "rnn":
        places = {"hh": (w.gain_hh, total(w.bias_ih, w.bias_hh), groups)}
    else:
        gates = {"ih": (w.gain_ih, total(w.bias_ih, w.bias_hh), groups), "hh": (w.gain_hh, None, groups)}
        places = {**({} if cell.cell_only else gates), "c": (w.gain_c, w.bias_c, [hidden_size])}
    if cell.norm == "none":
        return {}
    if cell.norm == "bn":
        return {p: CaseNorm(cell.eps, gain, bias, stats and stats.at(p)) for p, (gain, bias, _) in places.items()}
    return {p: UnitNorm(cell.norm, cell.eps, parts, gain, bias) for p, (gain, bias, parts) in places.items()}


def batch_stats(norms: Norms) -> Stats | None:
    """What batch normalisation has noted down, in training."""
    moments = {place: norm.moments() for place, norm in norms.items() if isinstance(norm, CaseNorm) and norm.means}
    if not moments:
        return None
    pairs = [moments.get(place, (None, None)) for place in ("ih", "hh", "c")]
    return Stats(*(moment for pair in pairs for moment in pair))
