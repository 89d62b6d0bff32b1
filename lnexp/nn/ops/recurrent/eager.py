"""The recurrent layers in plain torch calls, fast: for any device, and without a compiler. Equal to `reference` to rounding.

- The input terms of all steps, and their layer normalisation, are one call each.
- The gradient of W_hh is one product for all steps (`weight_gradient`).
- Padding is never computed: with lengths, cases are sorted by length and the batch shrinks from step to step, as in torch's
  packed sequences. So batch statistics are those of real cases by construction.

Shapes: T time, B batch, I input, H hidden, G gates * H, N all real (step, case) pairs, step after step; b the cases of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lnexp.nn.ops.autograd import with_higher_derivatives
from lnexp.nn.ops.recurrent.interface import Cell, Inputs, Output, Stats, Weights
from lnexp.nn.ops.recurrent.reference import plain_function
from lnexp.nn.ops.recurrent.step_norm import CaseNorm, StepNorm, step_norm
from lnexp.nn.ops.recurrent.weight_gradient import RecurrentProduct

Norms = dict[str, StepNorm]  # by place: "ih" the input term, "hh" the recurrent one, "c" the new cell
States = tuple[Tensor, ...]  # h_bH, and for lstm c_bH
Step = Callable[[int, Tensor, States], States]  # of t, the recurrent product a_bG and the states: the new states


def eager(inputs: Inputs) -> Output:
    """Run the layer. Differentiable to any order: `reference` gives derivatives of order two and higher."""
    cell, w, x_TBI, h0_BH, c0_BH, lengths_B, stats = inputs
    steps, cases, _ = x_TBI.shape
    norms = step_norms(cell, w, stats, inputs.hidden_size)
    start: States = (h0_BH,) if c0_BH is None else (h0_BH, c0_BH)
    if lengths_B is None or bool((lengths_B == steps).all()):
        product, out_NH, end = loop(cell, w, norms, x_TBI.flatten(0, 1), [cases] * steps, start)
        out_TBH = out_NH.view(steps, cases, h0_BH.shape[1])
    else:
        lengths_B, order_B = lengths_B.sort(descending=True, stable=True)
        back_B = order_B.argsort()
        packed = pack_padded_sequence(x_TBI[:, order_B], lengths_B)
        start = tuple(state_BH[order_B] for state_BH in start)
        product, out_NH, end = loop(cell, w, norms, packed.data, packed.batch_sizes.tolist(), start)
        out_TBH, _ = pad_packed_sequence(PackedSequence(out_NH, packed.batch_sizes), total_length=steps)
        out_TBH, end = out_TBH[:, back_B], tuple(state_BH[back_B] for state_BH in end)
    results = product.close(out_TBH, *end)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs.tensors):
        results = with_higher_derivatives(plain_function(inputs), inputs.tensors, results)
        results = tuple(t.clone() for t in results)  # torch refuses to overwrite what a Function returned as a view
    out_TBH, *end_BH = results
    return Output(out_TBH, end_BH[0], None if c0_BH is None else end_BH[1], batch_stats(norms, steps))


def loop(
    cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int], states: States
) -> tuple[RecurrentProduct, Tensor, States]:
    """All steps, step t with the first sizes[t] cases. Returns hidden states [N, H] and last states, to be closed."""
    rows_NG, step = {"lstm": lstm, "gru": gru, "rnn": rnn}[cell.kind](cell, w, norms, x_NI, sizes)
    product = RecurrentProduct(w.weight_hh, rows_NG, sizes)
    ended, outs = [], []  # ended: the last states of cases that are over, the longest last
    for t, size in enumerate(sizes):
        if size < len(states[0]):
            ended.append([state_bH[size:] for state_bH in states])
            states = tuple(state_bH[:size] for state_bH in states)
        states = step(t, product(t, states[0]), states)
        outs.append(states[0])
    parts = zip(states, *reversed(ended), strict=True)
    return product, torch.cat(outs), tuple(torch.cat(state) for state in parts)


def lstm(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> tuple[Tensor, Step]:
    """Equations (20)-(22), (29)-(31). Like `gru` and `rnn` it returns the rows to add to the recurrent products, and the step."""
    inputs_bG = None
    if cell.gates_norm == "none":
        rows_NG = F.linear(x_NI, w.weight_ih, total(w.bias_ih, w.bias_hh, w.bias_in))
    else:
        rows_NG, inputs_bG = nothing(w, x_NI), normalised_inputs(w, norms["ih"], x_NI, sizes)

    def step(t: int, a_bG: Tensor, states: States) -> States:
        if inputs_bG is not None:
            a_bG = norms["hh"](t, a_bG) + inputs_bG[t]
        i, f, g, o = a_bG.chunk(4, dim=1)
        c_bH = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
        normal_bH = norms["c"](t, c_bH) if "c" in norms else c_bH
        h_bH = o.sigmoid() * normal_bH.tanh()
        carried_bH = normal_bH if cell.placement == "carried_cell" else c_bH
        return h_bH if w.weight_hr is None else F.linear(h_bH, w.weight_hr), carried_bH

    return rows_NG, step


def gru(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> tuple[Tensor, Step]:
    """Equations (23)-(28)."""
    if cell.norm == "none":
        inputs_bG: Sequence[Tensor] = F.linear(x_NI, w.weight_ih, total(w.bias_ih, w.bias_in)).split(sizes)
        rows_NG = nothing(w, x_NI) if w.bias_hh is None else w.bias_hh.expand(len(x_NI), -1)
    else:
        rows_NG, inputs_bG = nothing(w, x_NI), normalised_inputs(w, norms["ih"], x_NI, sizes)
    hidden = w.weight_hh.shape[1]

    def step(t: int, a_bG: Tensor, states: States) -> States:
        rz_hh, n_hh = (norms["hh"](t, a_bG) if norms else a_bG).split([2 * hidden, hidden], dim=1)
        rz_ih, n_ih = inputs_bG[t].split([2 * hidden, hidden], dim=1)
        r, z = (rz_ih + rz_hh).sigmoid().chunk(2, dim=1)
        n = torch.addcmul(n_ih, r, n_hh).tanh()
        return (torch.lerp(n, states[0], z),)

    return rows_NG, step


def rnn(cell: Cell, w: Weights, norms: Norms, x_NI: Tensor, sizes: list[int]) -> tuple[Tensor, Step]:
    """Equation (4): the input terms are added to the products, since their sum is normalised."""
    rows_NG = F.linear(x_NI, w.weight_ih, w.bias_in if norms else total(w.bias_ih, w.bias_hh, w.bias_in))

    def step(t: int, a_bG: Tensor, states: States) -> States:
        a_bG = norms["hh"](t, a_bG) if norms else a_bG
        return (a_bG.relu() if cell.nonlinearity == "relu" else a_bG.tanh(),)

    return rows_NG, step


def normalised_inputs(w: Weights, norm: StepNorm, x_NI: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """The normalised input terms of each step: in one call, unless each step has statistics of its own."""
    a_NG = F.linear(x_NI, w.weight_ih, w.bias_in)
    if isinstance(norm, CaseNorm):
        return [norm(t, a_bG) for t, a_bG in enumerate(a_NG.split(sizes))]
    return norm(0, a_NG).split(sizes)


def nothing(w: Weights, x_NI: Tensor) -> Tensor:
    """Zeros [N, G] that take no memory."""
    return w.weight_hh.new_zeros(()).expand(len(x_NI), len(w.weight_hh))


def total(*biases: Tensor | None) -> Tensor | None:
    """The sum of the biases that are not None."""
    present = [bias for bias in biases if bias is not None]
    return sum(present[1:], start=present[0]) if present else None


def step_norms(cell: Cell, w: Weights, stats: Stats | None, hidden: int) -> Norms:
    """The normalisations of the cell, by place. Biases that are only added to each other become one."""
    separate = cell.kind == "gru"  # its reset gate is applied between the two
    biases = {
        "ih": w.bias_ih if separate else total(w.bias_ih, w.bias_hh),
        "hh": w.bias_hh if separate else total(w.bias_ih, w.bias_hh) if cell.kind == "rnn" else None,
        "c": w.bias_c,
    }
    return {place: step_norm(cell, w, place, hidden, biases[place], stats) for place in cell.places(hidden)}


def batch_stats(norms: Norms, steps: int) -> Stats | None:
    """The statistics that batch normalisation has recorded, in training."""
    moments = {place: norm.moments(steps) for place, norm in norms.items() if isinstance(norm, CaseNorm) and norm.means}
    if not moments:
        return None
    pairs = [moments.get(place, (None, None)) for place in ("ih", "hh", "c")]
    return Stats(*(moment for pair in pairs for moment in pair))
