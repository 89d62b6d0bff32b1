"""One recurrent layer in one direction over a whole sequence: what all implementations take and give.

Gates lie in torch's order: LSTM i, f, g, o; GRU r, z, n.

Shapes: T time, B batch, I input, H hidden, G gates * H (LSTM 4H, GRU 3H, RNN H).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True)
class Cell:
    """What one recurrent layer computes."""

    kind: str  # "lstm" | "gru" | "rnn"
    norm: str  # "none" | "ln" | "rms" | "bn"; weight normalisation works on the weights in front and is "none" here
    eps: float = 1e-5
    per_gate: bool = False  # ablation: one normalisation per gate, not the paper's one over all gates together
    cell_only: bool = False  # LSTM of DRAW (supplement, equations 29-31): the new cell alone is normalised
    nonlinearity: str = "tanh"  # kind "rnn": "tanh" | "relu"

    @property
    def gates_norm(self) -> str:
        """The norm of the summed inputs of the gates: "none" in the DRAW form."""
        return "none" if self.cell_only else self.norm

    def places(self, hidden_size: int) -> dict[str, int]:
        """What is normalised and its features: "ih" W_ih x, "hh" W_hh h (kind "rnn": the sum of both), "c" the new cell."""
        gates = GATES[self.kind] * hidden_size
        places = {}
        if self.gates_norm != "none":
            places = {"hh": gates} if self.kind == "rnn" else {"ih": gates, "hh": gates}
        return places | ({"c": hidden_size} if self.kind == "lstm" and self.norm != "none" else {})

    def groups(self, hidden_size: int) -> list[int]:
        """Sizes of the parts of the G summed inputs that ln and rms normalise apart, in order."""
        if self.per_gate:
            return [hidden_size] * GATES[self.kind]
        return {"lstm": [4 * hidden_size], "gru": [2 * hidden_size, hidden_size], "rnn": [hidden_size]}[self.kind]


class Weights(NamedTuple):
    """The parameters of one layer in one direction; None where the cell has no such parameter."""

    weight_ih: Tensor  # [G, I]
    weight_hh: Tensor  # [G, H]
    bias_ih: Tensor | None = None  # [G] after the norm of the input term
    bias_hh: Tensor | None = None  # [G] after the norm of the recurrent term
    bias_in: Tensor | None = None  # [G] inside the norm of the input term (the authors' code): W_ih x + bias_in
    gain_ih: Tensor | None = None  # [G]
    gain_hh: Tensor | None = None  # [G]; kind "rnn": the one gain, of the sum of both terms
    gain_c: Tensor | None = None  # [H] lstm
    bias_c: Tensor | None = None  # [H] lstm


class Stats(NamedTuple):
    """Mean and biased variance over the cases of a batch, per step and feature; None where nothing is normalised."""

    mean_ih: Tensor | None  # [T, G] of W_ih x; None for kind "rnn" and the DRAW form
    var_ih: Tensor | None
    mean_hh: Tensor | None  # [T, G] of W_hh h; kind "rnn": of W_ih x + W_hh h; None for the DRAW form
    var_hh: Tensor | None
    mean_c: Tensor | None  # [T, H] of the new cell; lstm only
    var_c: Tensor | None

    def at(self, place: str) -> tuple[Tensor, Tensor]:
        """Mean and variance of place "ih", "hh" or "c"."""
        return getattr(self, f"mean_{place}"), getattr(self, f"var_{place}")


class Output(NamedTuple):
    """What a layer gives: hidden states of all steps (0 on padding), the last real states, statistics."""

    out_TBH: Tensor
    h_BH: Tensor
    c_BH: Tensor | None  # lstm only
    stats: Stats | None  # of this batch, detached; norm "bn" in training only
