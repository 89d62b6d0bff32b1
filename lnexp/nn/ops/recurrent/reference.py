"""The recurrent layers as equations: the oracle of every faster implementation. Slow, and differentiable to any order.

Equation numbers are those of the paper (4) and of its supplement (20-31). N(.) is the normalisation without gain and bias.

Shapes: T time, B batch, I input, H hidden, G gates * H, F features of one place (G or H).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Output, Stats, Weights


def reference(inputs: Inputs) -> Output:
    """The loop over time."""
    cell, w, x_TBI, h_BH, c_BH, lengths_B, stats = inputs
    steps, cases, _ = x_TBI.shape
    lengths_B = torch.full((cases,), steps, device="cpu") if lengths_B is None else lengths_B
    real_TB1 = (torch.arange(steps, device="cpu")[:, None] < lengths_B)[..., None].to(x_TBI.device)
    x_TBI = torch.where(real_TB1, x_TBI, 0)  # no value in the padding, not even a NaN, reaches the result
    norm = Normalisation(cell, w, stats)
    outs = []
    for t, (x_BI, real_B1) in enumerate(zip(x_TBI.unbind(), real_TB1.unbind(), strict=True)):
        norm.enter(t, real_B1)
        if cell.kind == "lstm":
            assert c_BH is not None, "an LSTM has two states"
            h_new_BH, c_new_BH = lstm_step(cell, w, norm, x_BI, h_BH, c_BH)
            c_BH = torch.where(real_B1, c_new_BH, c_BH)
        else:
            h_new_BH = (gru_step if cell.kind == "gru" else rnn_step)(cell, w, norm, x_BI, h_BH)
        h_BH = torch.where(real_B1, h_new_BH, h_BH)
        outs.append(torch.where(real_B1, h_new_BH, 0))
    out_TBH = torch.stack(outs) if outs else h_BH[None][:0]
    return Output(out_TBH, h_BH, c_BH, norm.batch_stats())


def plain_function(inputs: Inputs) -> Callable[..., tuple[Tensor | None, ...]]:
    """Output, last h and last c as a function of `inputs.tensors`, for `lnexp.nn.ops.autograd.vjp`. Holds none of them."""
    run = inputs.without_tensors()
    return lambda *tensors: reference(run.with_tensors(*tensors))[:3]


def lstm_step(cell: Cell, w: Weights, norm: Normalisation, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor]:
    """Equations (20)-(22), or (29)-(31) with placement "cell_only"; without norm torch's LSTM. Returns the new h and c."""
    a_ih_BG, a_hh_BG = summed_inputs(cell, w, norm, x_BI, h_BH)
    i, f, g, o = (a_ih_BG + a_hh_BG).chunk(4, dim=1)  # (20), (29)
    c_new_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()  # (21), (30): the next step gets the cell unnormalised
    normal_BH = c_new_BH
    if cell.cell_norm != "none":
        normal_BH = affine(norm("c", c_new_BH, cell.groups(c_BH.shape[1], "c")), w.gain_c, w.bias_c)
    h_new_BH = o.sigmoid() * normal_BH.tanh()  # (22), (31): the output gets it normalised
    carried_BH = normal_BH if cell.placement == "carried_cell" else c_new_BH
    return h_new_BH if w.weight_hr is None else linear(h_new_BH, w.weight_hr), carried_BH


def gru_step(cell: Cell, w: Weights, norm: Normalisation, x_BI: Tensor, h_BH: Tensor) -> Tensor:
    """Equations (23)-(28), where torch's z is the paper's 1 - z. Returns the new h."""
    a_ih_BG, a_hh_BG = summed_inputs(cell, w, norm, x_BI, h_BH)
    r_ih, z_ih, n_ih = a_ih_BG.chunk(3, dim=1)
    r_hh, z_hh, n_hh = a_hh_BG.chunk(3, dim=1)
    r, z = (r_ih + r_hh).sigmoid(), (z_ih + z_hh).sigmoid()  # (23)
    n = (n_ih + r * n_hh).tanh()  # (24): the reset gate comes after the recurrent matrix and its norm
    return (1 - z) * n + z * h_BH  # (25)


def rnn_step(cell: Cell, w: Weights, norm: Normalisation, x_BI: Tensor, h_BH: Tensor) -> Tensor:
    """Equation (4): one normalisation, of the sum of both terms. Returns the new h."""
    a_BG = affine(product(cell, x_BI, w.weight_ih), None, w.bias_in) + product(cell, h_BH, w.weight_hh)
    a_BG = affine(affine(norm("hh", a_BG, cell.groups(h_BH.shape[1])), w.gain_hh, w.bias_hh), None, w.bias_ih)
    return a_BG.relu() if cell.nonlinearity == "relu" else a_BG.tanh()


def summed_inputs(cell: Cell, w: Weights, norm: Normalisation, x_BI: Tensor, h_BH: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of (20) and (23)-(24): LN(W_ih x) and LN(W_hh h), each with its gain and bias."""
    a_ih_BG, a_hh_BG = affine(product(cell, x_BI, w.weight_ih), None, w.bias_in), product(cell, h_BH, w.weight_hh)
    if cell.gates_norm != "none":
        groups = cell.groups(len(w.weight_hh) // GATES[cell.kind])
        a_ih_BG, a_hh_BG = norm("ih", a_ih_BG, groups), norm("hh", a_hh_BG, groups)
    return affine(a_ih_BG, w.gain_ih, w.bias_ih), affine(a_hh_BG, w.gain_hh, w.bias_hh)


def product(cell: Cell, x_BI: Tensor, weight_GI: Tensor) -> Tensor:
    """x W^T; with products="bfloat16" of rounded factors, here and in the gradients of x and W."""
    if cell.products == "float32":
        return x_BI @ weight_GI.t()
    a_BG = rounded(x_BI) @ rounded(weight_GI).t()
    exact_BG = a_BG.bfloat16().to(a_BG.dtype)  # its gradient is rounded on the way back
    return exact_BG + (a_BG - exact_BG).detach()


def rounded(a: Tensor) -> Tensor:
    """The nearest bfloat16, in the type of a; the gradient passes as it is."""
    return a + (a.bfloat16().to(a.dtype) - a).detach()


def linear(x_BI: Tensor, weight_GI: Tensor, bias_G: Tensor | None = None) -> Tensor:
    return affine(x_BI @ weight_GI.t(), None, bias_G)


def affine(a_BF: Tensor, gain_F: Tensor | None, bias_F: Tensor | None) -> Tensor:
    a_BF = a_BF if gain_F is None else gain_F * a_BF
    return a_BF if bias_F is None else a_BF + bias_F


def spread(alpha_g: Tensor, groups: list[int]) -> Tensor:
    """One value of each group, for each of its features."""
    return torch.cat([alpha_1.expand(size) for alpha_1, size in zip(alpha_g.split(1), groups, strict=True)])


class Normalisation:
    """N(.) at each place ("ih", "hh", "c") and step of one sequence, before gain and bias; eps is inside the root.

    Layer, RMS and group normalisation are over the units of one case, whatever the step. Batch normalisation is over the real
    cases of the present step, or uses given population statistics. Dynamic tanh has no statistics.

    Raises:
        ValueError: a norm that is not in its table.
    """

    def __init__(self, cell: Cell, w: Weights, stats: Stats | None) -> None:
        forms = {"none": self.none, "bn": self.over_cases, "ln": self.over_units, "rms": self.over_units}
        forms |= {"group": self.over_units, "dyt": self.squashed}
        if cell.norm not in forms:
            raise ValueError(f"norm={cell.norm}: the reference knows {', '.join(forms)}")
        self.form, self.centres = forms[cell.norm], cell.norm != "rms"
        self.w, self.eps, self.stats = w, cell.eps, stats
        self.seen: dict[str, list[Tensor]] = {}

    def enter(self, t: int, real_B1: Tensor) -> None:
        """Go to step t; `real_B1`: which cases are not padding there."""
        self.t, self.real_B1 = t, real_B1

    def __call__(self, place: str, a_BF: Tensor, groups: list[int]) -> Tensor:
        return self.form(place, a_BF, groups)

    def none(self, place: str, a_BF: Tensor, groups: list[int]) -> Tensor:
        return a_BF

    def over_cases(self, place: str, a_BF: Tensor, groups: list[int]) -> Tensor:
        mean_F, var_F = self.moments(place, a_BF)
        return (a_BF - mean_F) / (var_F + self.eps).sqrt()

    def over_units(self, place: str, a_BF: Tensor, groups: list[int]) -> Tensor:
        """Equations (3) and (15)-(16), for each group; RMS normalisation does not subtract the mean."""
        parts = []
        for a_Bg in a_BF.split(groups, dim=1):
            centred_Bg = a_Bg - a_Bg.mean(dim=1, keepdim=True) if self.centres else a_Bg
            parts.append(centred_Bg / (centred_Bg.square().mean(dim=1, keepdim=True) + self.eps).sqrt())
        return torch.cat(parts, dim=1)

    def squashed(self, place: str, a_BF: Tensor, groups: list[int]) -> Tensor:
        """tanh(alpha a) (Zhu et al. 2025), with one alpha for each group."""
        return (spread(getattr(self.w, f"alpha_{place}"), groups) * a_BF).tanh()

    def moments(self, place: str, a_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the real cases, recorded (0 at a step that none reaches); or the population's."""
        if self.stats is not None:
            mean_TF, var_TF = self.stats.at(place)
            return mean_TF[self.t], var_TF[self.t]
        cases = self.real_B1.sum().clamp(min=1)
        mean_F = torch.where(self.real_B1, a_BF, 0).sum(dim=0) / cases
        var_F = torch.where(self.real_B1, (a_BF - mean_F).square(), 0).sum(dim=0) / cases
        self.seen.setdefault(f"mean_{place}", []).append(mean_F.detach())
        self.seen.setdefault(f"var_{place}", []).append(var_F.detach())
        return mean_F, var_F

    def batch_stats(self) -> Stats | None:
        """The moments of all steps, if any were recorded."""
        stacked = {name: torch.stack(rows) for name, rows in self.seen.items()}
        return Stats._make(stacked.get(name) for name in Stats._fields) if stacked else None
