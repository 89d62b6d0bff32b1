"""What RNN, LSTM and GRU have in common: parameters, and the way through layers and directions.

Shapes: T time, B batch, I input, H hidden, G gates * H (LSTM 4H, GRU 3H, RNN H), D directions, L layers * directions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.norms import NORMS, BatchNorm, Norm
from lnexp.nn.ops.recurrent.dispatch import run
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Weights
from lnexp.nn.packing import Layout, reverse

DRAWN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # torch's parameters of one layer, in the order in which it draws them


class Options(TypedDict, total=False):
    """What RNN, LSTM and GRU have in common. The first four and the last two are torch's.

    per_gate: an ablation: ln and rms normalise each gate apart.
    bias_in: a bias inside the norm of the input term, N(W_ih x + bias_in), as in the authors' code. For ln and rms; it is
        left out elsewhere, where it would double bias_ih (none, wn) or cancel (bn).
    learned_state: the states at the start are parameters h0, c0 [L, H], used where no state is given. Under bn
        h0 cancels in the statistics, as all cases share it: give it noise as a state of your own.
    state_std: standard deviation that these are drawn with; without it they start at 0.
    max_t: bn needs it: so many steps have statistics of their own; in evaluation, later ones use the last one's.
    """

    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    per_gate: bool
    bias_in: bool
    learned_state: bool
    state_std: float
    max_t: int | None
    device: Any
    dtype: torch.dtype | None


class Recurrent(nn.Module):
    """A stack of recurrent layers, in one or both directions, of one kind of cell.

    Parameters have torch's names (`weight_ih_l0`, `bias_hh_l1_reverse`); norms add `gain_ih`, `gain_hh`, and for LSTM `gain_c`
    and `bias_c`. With one seed all norms start from equal weights, which are torch's. The biases of what ln, rms and bn
    normalise are the norm's own: they start at 0, and the gains at 1 (bn: 0.1), or as the `Norm` says (paper section 6).
    """

    kind: str
    state_names: tuple[str, ...] = ("h0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        norm: str | Norm,
        form: Mapping[str, Any],  # what `Cell` takes for this kind alone
        forget_bias: float,
        /,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        per_gate: bool = False,
        bias_in: bool = False,
        learned_state: bool = False,
        state_std: float = 0.0,
        max_t: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be 1 or more")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout}: must be 0 to 1")
        if not bias and (bias_in or forget_bias):
            raise ValueError(f"bias=False: rules out bias_in={bias_in}, forget_bias={forget_bias}")
        if state_std < 0 or (state_std and not learned_state):
            raise ValueError(f"state_std={state_std}: must be 0 or more, and 0 without learned_state")
        if dropout and num_layers == 1:
            warnings.warn(f"dropout={dropout} is between layers: with num_layers=1 it does nothing", stacklevel=3)
        self.norm = norm_of(norm)
        self.cell = Cell(self.kind, self.norm.cells, self.norm.eps, per_gate, **form)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self.state_std, self.forget_bias = state_std, forget_bias
        self.directions = ("", "_reverse") if bidirectional else ("",)
        self.batch_steps = nn.ModuleDict() if isinstance(self.norm, BatchNorm) else None

        def add(name: str, *shape: int) -> None:
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

        gates, places = GATES[self.kind] * hidden_size, self.cell.places(hidden_size)
        for name in self.names():
            add(f"weight_ih_{name}", gates, input_size if name in self.names(0) else hidden_size * len(self.directions))
            add(f"weight_hh_{name}", gates, hidden_size)
            if bias:
                add(f"bias_ih_{name}", gates)
                add(f"bias_hh_{name}", gates)
            if bias_in and self.cell.gates_norm in ("ln", "rms"):
                add(f"bias_in_{name}", gates)
            for place, features in places.items():
                add(f"gain_{place}_{name}", features)
            if bias and "c" in places:
                add(f"bias_c_{name}", hidden_size)
            if self.batch_steps is not None and isinstance(self.norm, BatchNorm):
                self.batch_steps[name] = BatchSteps(max_t, places, self.norm.momentum, device, dtype)
        if learned_state:
            for name in self.state_names:
                add(name, len(self.names()), hidden_size)
        for name in self.names():
            self.norm.weight(self, f"weight_ih_{name}")
            self.norm.weight(self, f"weight_hh_{name}")
        self.reset_parameters()

    def names(self, layer: int | None = None) -> list[str]:
        """What the parameters of each direction of a layer (None: of all layers) end with: l0, l0_reverse, l1, ..."""
        layers = range(self.num_layers) if layer is None else [layer]
        return [f"l{n}{direction}" for n in layers for direction in self.directions]

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set a parameter, one that weight normalisation has reparametrised included: `layer.assign("weight_hh_l0", matrix)`."""
        if parametrize.is_parametrized(self, name):
            setattr(self, name, value)
        else:
            self.get_parameter(name).copy_(value)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as torch's layers do, value by value. What norms and learned states add comes after."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name in self.names():
            for part in DRAWN if self.bias else DRAWN[:2]:
                full = f"{part}_{name}"
                self.assign(full, torch.empty_like(getattr(self, full)).uniform_(-bound, bound))
        for name in self.names():
            w = self.weights(name)
            added = [w.bias_in, w.bias_c] + ([w.bias_ih, w.bias_hh] if self.cell.gates_norm != "none" else [])
            for bias in added:
                if bias is not None:
                    bias.zero_()
            for gain in (w.gain_ih, w.gain_hh, w.gain_c):
                if gain is not None:
                    gain.fill_(self.norm.step_gain)
            if w.bias_ih is not None and self.kind == "lstm":
                w.bias_ih[self.hidden_size : 2 * self.hidden_size] += self.forget_bias
        for module in self.modules():
            if isinstance(module, BatchSteps):
                module.reset_running_stats()
        for name in self.state_names:
            if hasattr(self, name):
                nn.init.zeros_(getattr(self, name))
                if self.state_std:
                    nn.init.normal_(getattr(self, name), std=self.state_std)

    def weights(self, name: str) -> Weights:
        """The parameters of one direction of one layer, `name` being such as l0 or l1_reverse."""
        return Weights._make(getattr(self, f"{field}_{name}", None) for field in Weights._fields)

    def forward(
        self, x: Tensor | PackedSequence, state: Any = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Any, Any]:
        """Run all layers over the sequences.

        Args:
            x: [T, B, I], [B, T, I] with batch_first, [T, I] for one sequence, or a PackedSequence.
            state: h [L, B, H], for LSTM a pair (h, c); [L, H] for one sequence. None: zeros, or the learned state.
            lengths: padded sequences: case b is real at t < lengths[b]. On padding the output is 0, x is never read, and the
                states keep their last real value. Any order; 1 to T.

        Returns:
            The hidden states of the last layer, [T, B, D H] and laid out as x was; and the state after the last real step.

        Raises:
            ValueError: a shape or length does not fit, or bn is to be trained on one case.
        """
        layout = Layout.read(x, lengths, self.batch_first, self.input_size)
        x_TBI, lengths_B = layout.x_TBI, layout.lengths_B
        states_LBH = self.states_in(state, layout)
        ends: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x_TBI = F.dropout(x_TBI, self.dropout, self.training)
            outs = []
            for name in self.names(layer):
                start_BH = [state_LBH[len(ends)] for state_LBH in states_LBH]
                out_TBH, end_BH = self.one_way(name, x_TBI, start_BH, lengths_B)
                outs.append(out_TBH)
                ends.append(end_BH)
            x_TBI = torch.cat(outs, dim=2) if len(outs) > 1 else outs[0]
        states = tuple(layout.state_out(torch.stack(end_LBH)) for end_LBH in zip(*ends, strict=True))
        return layout.output(x_TBI), states if self.kind == "lstm" else states[0]

    def one_way(
        self, name: str, x_TBI: Tensor, start_BH: list[Tensor], lengths_B: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One direction of one layer: its output [T, B, H] and its states after the last step, [B, H] each."""
        steps, cases, _ = x_TBI.shape
        records = None if self.batch_steps is None else self.batch_steps.get_submodule(name)
        stats = None
        if isinstance(records, BatchSteps) and not self.training:
            stats = records.population(steps)
        elif records is not None and cases:
            self.norm.check_batch(cases)
        backwards = name.endswith("_reverse")
        x_TBI = reverse(x_TBI, lengths_B) if backwards else x_TBI
        h0_BH, c0_BH = start_BH if self.kind == "lstm" else (start_BH[0], None)
        out_TBH, h_BH, c_BH, seen = run(self.cell, self.weights(name), x_TBI, h0_BH, c0_BH, lengths_B, stats)
        if isinstance(records, BatchSteps) and seen is not None:
            t_T1 = torch.arange(steps)[:, None]
            records.update(seen, torch.full((steps,), cases) if lengths_B is None else (t_T1 < lengths_B).sum(dim=1))
        out_TBH = reverse(out_TBH, lengths_B) if backwards else out_TBH
        return out_TBH, (h_BH,) if c_BH is None else (h_BH, c_BH)

    def states_in(self, state: Any, layout: Layout) -> list[Tensor]:
        """The states at the start, [L, B, H] each: the caller's, the learned ones, or zeros."""
        layers, cases = len(self.names()), layout.x_TBI.shape[1]
        if state is None:
            zeros_LH = layout.x_TBI.new_zeros(layers, self.hidden_size)
            return [getattr(self, name, zeros_LH)[:, None].expand(-1, cases, -1) for name in self.state_names]
        given = state if self.kind == "lstm" else (state,)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.state_names) or not all(map(torch.is_tensor, given)):
            wanted = "a pair of tensors (h, c)" if self.kind == "lstm" else "a tensor h"
            raise ValueError(f"state is a {type(state).__name__}: must be {wanted}")
        pairs = zip(given, self.state_names, strict=True)
        return [layout.state_in(s, f"state {name[0]}", layers, self.hidden_size) for s, name in pairs]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, norm={self.norm.name}"
        shown = {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        return text + "".join(f", {name}={getattr(self, name)}" for name, usual in shown.items() if getattr(self, name) != usual)


def norm_of(norm: str | Norm) -> Norm:
    """The norm of that name, or the one given. Raises a ValueError for one that recurrent layers do not know."""
    if (norm.name if isinstance(norm, Norm) else norm) not in NORMS:
        raise ValueError(f"norm={norm}: allowed are {', '.join(NORMS)}")
    return norm if isinstance(norm, Norm) else NORMS[norm]()
