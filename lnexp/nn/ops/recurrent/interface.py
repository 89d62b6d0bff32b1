"""What every implementation of a recurrent layer takes and returns: one layer, in one direction, over a whole sequence.

Gates in torch's order: LSTM i, f, g, o; GRU r, z, n.

Shapes: T time, B batch, I input, H hidden, G gates * H (LSTM 4H, GRU 3H, RNN H). With a projection (LSTM's proj_size P), h and
the output have P features, although their names end in H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
CELL_NORMS = ("none", "bn", "ln", "rms", "group", "dyt")  # all normalisations inside recurrent cells
PLACEMENTS = {
    "lstm": ("all_gates", "per_gate", "cell_only", "bias_inside", "gates_only", "carried_cell"),
    "gru": ("all_gates", "per_gate", "bias_inside"),
    "rnn": ("all_gates", "per_gate", "bias_inside"),
}
NONLINEARITIES = ("tanh", "relu")
PRODUCTS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Cell:
    """What one recurrent layer computes.

    Args:
        kind: "lstm", "gru" or "rnn".
        norm: one of `CELL_NORMS`. Weight normalisation acts on the weights before they get here, and is "none".
        eps: added to the variance inside the root.
        placement: "all_gates": one normalisation over all gates, as in the paper's supplement; "per_gate": one for each gate;
            "cell_only": LSTM, the new cell alone, as in the paper's DRAW (equations 29-31); "bias_inside": as "all_gates", with
            `bias_in` inside the norm of the input term, as in the authors' code; "gates_only": LSTM, as "all_gates" without the
            norm of the new cell; "carried_cell": LSTM, as "all_gates", but the next step gets the normalised cell.
        nonlinearity: of kind "rnn": "tanh" or "relu".
        unit_groups: norm "group": number of groups among the units of each gate, and of the cell.
        products: "bfloat16": the factors of all products with weight_ih and weight_hh, and of their gradients, are rounded to
            bfloat16, and their sums are in float32, as everything else. "float32": nothing is rounded, whatever the type.

    Raises:
        ValueError: a value that is not in these lists.
    """

    kind: str
    norm: str
    eps: float = 1e-5
    placement: str = "all_gates"
    nonlinearity: str = "tanh"
    unit_groups: int = 1
    products: str = "float32"

    def __post_init__(self) -> None:
        choices = {"kind": tuple(GATES), "norm": CELL_NORMS, "nonlinearity": NONLINEARITIES, "products": PRODUCTS}
        for name, allowed in (choices | {"placement": PLACEMENTS.get(self.kind, ())}).items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")

    @property
    def per_gate(self) -> bool:
        """Whether each gate has a normalisation of its own."""
        return self.placement == "per_gate"

    @property
    def cell_only(self) -> bool:
        """Whether the new cell alone is normalised, not the gates."""
        return self.placement == "cell_only"

    @property
    def gates_norm(self) -> str:
        """The norm of the summed inputs of the gates: "none" where the cell alone is normalised."""
        return "none" if self.cell_only else self.norm

    @property
    def cell_norm(self) -> str:
        """The norm of the new cell: "none" where the gates alone are normalised."""
        return "none" if self.placement == "gates_only" else self.norm

    @property
    def bias_inside(self) -> bool:
        """Whether there is a bias_in: not under "none", where it would double bias_ih, nor "bn", where it would cancel."""
        return self.placement == "bias_inside" and self.norm not in ("none", "bn")

    def places(self, hidden_size: int) -> dict[str, int]:
        """What is normalised, with its size: "ih" W_ih x, "hh" W_hh h (kind "rnn": the sum of both), "c" the new cell."""
        gates = GATES[self.kind] * hidden_size
        places = {}
        if self.gates_norm != "none":
            places = {"hh": gates} if self.kind == "rnn" else {"ih": gates, "hh": gates}
        return places | ({"c": hidden_size} if self.kind == "lstm" and self.cell_norm != "none" else {})

    def groups(self, hidden_size: int, place: str = "hh") -> list[int]:
        """Sizes of the parts of a place that are normalised separately, in order; under "dyt" each has an alpha of its own."""
        if self.norm == "group":
            return [hidden_size // self.unit_groups] * (self.unit_groups * (1 if place == "c" else GATES[self.kind]))
        if place == "c":
            return [hidden_size]
        if self.per_gate:
            return [hidden_size] * GATES[self.kind]
        return {"lstm": [4 * hidden_size], "gru": [2 * hidden_size, hidden_size], "rnn": [hidden_size]}[self.kind]

    def alphas(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the scales of dynamic tanh, none under other norms."""
        places = self.places(hidden_size) if self.norm == "dyt" else ()
        return {f"alpha_{place}": (len(self.groups(hidden_size, place)),) for place in places}


class Weights(NamedTuple):
    """The parameters of one layer in one direction; None where the cell has no such parameter."""

    weight_ih: Tensor  # [G, I]
    weight_hh: Tensor  # [G, H]; [G, P] with a projection
    bias_ih: Tensor | None = None  # [G] after the norm of the input term
    bias_hh: Tensor | None = None  # [G] after the norm of the recurrent term
    bias_in: Tensor | None = None  # [G] inside the norm of the input term (the authors' code): W_ih x + bias_in
    gain_ih: Tensor | None = None  # [G]
    gain_hh: Tensor | None = None  # [G]; kind "rnn": the one gain, of the sum of both terms
    gain_c: Tensor | None = None  # [H] lstm
    bias_c: Tensor | None = None  # [H] lstm
    weight_hr: Tensor | None = None  # [P, H] lstm: h = W_hr (o * tanh(N(c)))
    alpha_ih: Tensor | None = None  # [number of `Cell.groups`] norm "dyt": N(a) = tanh(alpha a)
    alpha_hh: Tensor | None = None
    alpha_c: Tensor | None = None  # [1] lstm


class Stats(NamedTuple):
    """Mean and biased variance over the cases of a batch, per step and feature; None where nothing is normalised."""

    mean_ih: Tensor | None  # [T, G] of W_ih x; None for kind "rnn" and placement "cell_only"
    var_ih: Tensor | None
    mean_hh: Tensor | None  # [T, G] of W_hh h; kind "rnn": of W_ih x + W_hh h; None for placement "cell_only"
    var_hh: Tensor | None
    mean_c: Tensor | None  # [T, H] of the new cell; lstm only
    var_c: Tensor | None

    def at(self, place: str) -> tuple[Tensor, Tensor]:
        """Mean and variance of place "ih", "hh" or "c"."""
        return getattr(self, f"mean_{place}"), getattr(self, f"var_{place}")


class Inputs(NamedTuple):
    """The arguments of one run over a sequence.

    Args:
        lengths_B: int64 on the CPU, each 1..T: sequence b is real at t < lengths_B[b]. None: all T steps are real. On padding
            the states keep their values, the output is 0, and x is never read.
        stats: norm "bn": the population statistics to evaluate with; None in training, where the batch's own are used.
    """

    cell: Cell
    w: Weights
    x_TBI: Tensor
    h0_BH: Tensor
    c0_BH: Tensor | None = None
    lengths_B: Tensor | None = None
    stats: Stats | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All differentiable inputs, in this order: x, h0, c0, weights."""
        return self.x_TBI, self.h0_BH, self.c0_BH, *self.w

    def with_tensors(self, *tensors: Any) -> Inputs:
        """The same run on other tensors, in the order of `tensors`."""
        x_TBI, h0_BH, c0_BH, *weights = tensors
        return self._replace(x_TBI=x_TBI, h0_BH=h0_BH, c0_BH=c0_BH, w=Weights._make(weights))

    def without_tensors(self) -> Inputs:
        """The same run with no differentiable inputs yet, for `with_tensors`: it keeps none of them alive."""
        return self.with_tensors(*(None for _ in self.tensors))

    @property
    def hidden_size(self) -> int:
        return len(self.w.weight_hh) // GATES[self.cell.kind]


class Output(NamedTuple):
    """Hidden states of all steps (0 on padding), the last real states, and the batch's statistics."""

    out_TBH: Tensor
    h_BH: Tensor
    c_BH: Tensor | None  # lstm only
    stats: Stats | None  # of this batch, detached; norm "bn" in training only
