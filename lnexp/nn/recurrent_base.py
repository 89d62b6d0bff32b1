"""The common part of RNN, LSTM and GRU: the loop over layers and directions.

Shapes: T time, B batch, I input, H hidden, D directions, L layers * directions. With LSTM's proj_size P, h and the output have
P features, although their names end in H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.ops.autograd import outside_compiled_graphs, without_autocast
from lnexp.nn.ops.recurrent import run
from lnexp.nn.ops.recurrent.interface import Inputs
from lnexp.nn.packing import Layout, reverse
from lnexp.nn.recurrent_parameters import DRAWN, Options, RecurrentParameters, norm_of

__all__ = ["DRAWN", "Options", "Recurrent", "norm_of"]


class Recurrent(RecurrentParameters):
    """A stack of recurrent layers of one kind of cell, in one or both directions."""

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Any, Any]:
        """Run all layers over the sequences.

        Inside `torch.compile` the layer runs as it is, outside of the compiled graph. Under autocast it is computed in the type
        of its parameters, and the results have the type that torch's layers give them.

        Args:
            input: [T, B, I], [B, T, I] with batch_first, [T, I] for one sequence, or a PackedSequence.
            hx: initial states h [L, B, H], for LSTM a pair (h, c); [L, H] for one sequence. None: zeros, or the learned state.
            lengths: for padded sequences: case b is real at t < lengths[b]. On padding the output is 0, the input is never read,
                and the states keep their last real value. Any order; 1 to T.

        Returns:
            The hidden states of the last layer, [T, B, D H] in the layout of input; and the states after the last real step.

        Raises:
            ValueError: a shape, type or length does not fit, or bn is to be trained on one case.
        """
        layout = Layout.read(input, lengths, self.batch_first, self.input_size)
        states_LBH = self.states_in(hx, layout)
        result = result_type(self.kind, [layout.x_TBI, *states_LBH], isinstance(input, PackedSequence))
        if result is None:
            out_TBH, end = self.stack(layout.x_TBI, states_LBH, layout.lengths_B)
        else:
            own = next(self.parameters()).dtype
            with without_autocast(layout.x_TBI.device):
                out_TBH, end = self.stack(layout.x_TBI.to(own), [s.to(own) for s in states_LBH], layout.lengths_B)
            out_TBH, end = out_TBH.to(result), [state_LBH.to(result) for state_LBH in end]
        states = tuple(layout.state_out(state_LBH) for state_LBH in end)
        return layout.output(out_TBH), states if self.kind == "lstm" else states[0]

    def stack(self, x_TBI: Tensor, states_LBH: list[Tensor], lengths_B: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """All layers: the output [T, B, D H] and the last states [L, B, H]."""
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
        return x_TBI, [torch.stack(end_LBH) for end_LBH in zip(*ends, strict=True)]

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
        out_TBH, h_BH, c_BH, seen = run(Inputs(self.cell, self.weights(name), x_TBI, h0_BH, c0_BH, lengths_B, stats))
        if isinstance(records, BatchSteps) and seen is not None:
            t_T1 = torch.arange(steps, device="cpu")[:, None]
            every = torch.full((steps,), cases, device="cpu")
            records.update(seen, every if lengths_B is None else (t_T1 < lengths_B).sum(dim=1))
        out_TBH = reverse(out_TBH, lengths_B) if backwards else out_TBH
        return out_TBH, (h_BH,) if c_BH is None else (h_BH, c_BH)

    def states_in(self, hx: Any, layout: Layout) -> list[Tensor]:
        """The initial states, [L, B, H] each: the caller's, the learned ones, or zeros."""
        layers, cases = len(self.names()), layout.x_TBI.shape[1]
        sizes = {"h0": self.proj_size or self.hidden_size, "c0": self.hidden_size}
        if hx is None:
            if self.learned_state:
                return [getattr(self, name)[:, None].expand(-1, cases, -1) for name in self.state_names]
            return [layout.x_TBI.new_zeros(layers, cases, sizes[name]) for name in self.state_names]
        given = hx if self.kind == "lstm" else (hx,)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.state_names) or not all(map(torch.is_tensor, given)):
            wanted = "a pair of tensors (h, c)" if self.kind == "lstm" else "a tensor h"
            raise ValueError(f"hx is a {type(hx).__name__}: must be {wanted}")
        pairs = zip(given, self.state_names, strict=True)
        return [layout.state_in(s, f"hx: {name[0]}", layers, sizes[name]) for s, name in pairs]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, norm={self.norm.name}"
        usual = {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0}
        shown = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        shown |= {"placement": self.cell.placement} if self.cell.placement != "all_gates" else {}
        shown |= {"products": self.cell.products} if self.cell.products != "float32" else {}
        return text + "".join(f", {name}={value}" for name, value in shown.items())


outside_compiled_graphs(
    Recurrent.forward, "recurrent layers of lnexp.nn run outside of compiled graphs, so that fullgraph=True is not possible"
)


def result_type(kind: str, given: Sequence[Tensor], packed: bool) -> torch.dtype | None:
    """The type of a layer's results under autocast, as torch's layers have it; None: autocast is off."""
    device = given[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    common = given[0].dtype
    for t in given[1:]:
        common = torch.promote_types(common, t.dtype)
    on_cpu = device == "cpu" and (kind == "gru" or (kind == "lstm" and packed))  # torch has no autocast for these
    return common if on_cpu or common == torch.float64 else torch.get_autocast_dtype(device)
