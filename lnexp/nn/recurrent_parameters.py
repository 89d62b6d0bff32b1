"""The parameters of RNN, LSTM and GRU layers: names, shapes, initial values.

Shapes: I input, H hidden, G gates * H (LSTM 4H, GRU 3H, RNN H), L layers * directions.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.norm_base import Norm, NormError
from lnexp.nn.norms import NORMS
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Weights

DRAWN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")  # torch's parameters of a layer, in the order of drawing


class Options(TypedDict, total=False):
    """Keyword arguments that RNN, LSTM and GRU have beyond torch's.

    norm: name of a norm, or a `Norm`. Default "ln".
    placement: what is normalised together.
        "all_gates" (default, the paper's supplement): one norm over all gates of W_ih x and one over those of W_hh h;
        "per_gate": one norm for each gate (ablation; bn and group, whose groups are of one gate's units, are not changed by it);
        "bias_inside": as "all_gates", with a bias inside the norm of the input term, N(W_ih x + bias_in), as in the authors'
            code. Without effect where it would double bias_ih (none, wn) or cancel (bn);
        "cell_only" (LSTM): the new cell alone, as in the paper's DRAW (equations 29-31);
        "gates_only" (LSTM): as "all_gates", without the norm of the new cell;
        "carried_cell" (LSTM): as "all_gates", but the next step gets the normalised cell, gain_c N(c) + bias_c. Runs without
            compiled kernels.
    learned_state: the initial states are parameters h0, c0 [L, H], used where no state is given. Under bn h0 cancels in the
        statistics, as all cases share it: there, pass a state with noise.
    state_std: standard deviation of their initial values; 0: they start at 0.
    max_t: required by bn: number of steps with statistics of their own; in evaluation, later steps use the last one's.
    products: "float32" (default), or "bfloat16": x, h, weight_ih and weight_hh, and the gradients of their products, are rounded
        to bfloat16 where they are multiplied; sums, norms and states stay in float32. About twice as fast at 1,024 units on
        processors with avx512_bf16; elsewhere the same result, slowly, with a warning. float32 parameters only.
    """

    norm: str | Norm
    placement: str
    learned_state: bool
    state_std: float
    max_t: int | None
    products: str


def set_initial(w: Weights, cell: Cell, norm: Norm, forget_bias: float) -> None:
    """Set what is not drawn, in place: biases that follow a norm to 0, gains to the norm's, and add the forget gate's bias."""
    for bias in (w.bias_in, w.bias_c, *((w.bias_ih, w.bias_hh) if cell.gates_norm != "none" else ())):
        if bias is not None:
            bias.zero_()
    for gain in (w.gain_ih, w.gain_hh, w.gain_c):
        if gain is not None:
            gain.fill_(norm.step_gain)
    for alpha in (w.alpha_ih, w.alpha_hh, w.alpha_c):
        if alpha is not None:
            alpha.fill_(norm.alpha)
    if w.bias_ih is not None and cell.kind == "lstm":
        w.bias_ih.chunk(GATES["lstm"])[1].add_(forget_bias)


class RecurrentParameters(nn.Module):
    """The parameters of a stack of recurrent layers of one kind of cell, in one or both directions.

    They have torch's names (`weight_ih_l0`, `bias_hh_l1_reverse`); norms add `gain_ih`, `gain_hh`, and for LSTM `gain_c`
    and `bias_c`, unless they have no gain or no bias; dynamic tanh adds `alpha_ih`, `alpha_hh`, `alpha_c`. With one seed all
    norms start from equal weights, which are torch's. The biases of what is normalised are the norm's own: they start at 0, and
    the gains at 1 (bn: 0.1), or at the `Norm`'s `gain` (paper section 6).
    """

    kind: str
    state_names: tuple[str, ...] = ("h0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: Any,
        dtype: torch.dtype | None,
        proj_size: int = 0,
        nonlinearity: str = "tanh",
        forget_bias: float = 0.0,
        /,
        *,
        norm: str | Norm = "ln",
        placement: str = "all_gates",
        learned_state: bool = False,
        state_std: float = 0.0,
        max_t: int | None = None,
        products: str = "float32",
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be 1 or more")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size={proj_size}: must be 0 (none) or 1 to {hidden_size - 1}, less than hidden_size")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout}: must be 0 to 1")
        if not bias and (placement == "bias_inside" or forget_bias):
            raise ValueError(f"bias=False: excludes placement={placement} and forget_bias={forget_bias}, which need biases")
        if state_std < 0 or (state_std and not learned_state):
            raise ValueError(f"state_std={state_std}: must be 0 or more, and 0 without learned_state")
        if dropout and num_layers == 1:
            warnings.warn(f"dropout={dropout} is between layers: with num_layers=1 it has no effect", stacklevel=3)
        self.norm = norm_of(norm)
        groups = self.norm.groups_of(hidden_size)
        self.cell = Cell(self.kind, self.norm.recurrent(), self.norm.eps, placement, nonlinearity, groups, products)
        check_units(self.norm, hidden_size)
        self.input_size, self.hidden_size, self.num_layers, self.proj_size = input_size, hidden_size, num_layers, proj_size
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self.learned_state, self.state_std, self.forget_bias = learned_state, state_std, forget_bias
        self.directions = ("", "_reverse") if bidirectional else ("",)
        self.batch_steps = nn.ModuleDict() if self.cell.norm == "bn" else None

        gates, places, out_size = GATES[self.kind] * hidden_size, self.cell.places(hidden_size), proj_size or hidden_size
        gates_bias = bias and (self.cell.gates_norm == "none" or self.norm.gate_bias)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, input_size), "weight_hh": (gates, out_size)}
        if gates_bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if proj_size:
            shapes["weight_hr"] = (proj_size, hidden_size)
        if self.cell.bias_inside:
            shapes["bias_in"] = (gates,)
        if self.norm.affine:
            shapes |= {f"gain_{place}": (features,) for place, features in places.items()}
        if bias and self.norm.bias and "c" in places:
            shapes["bias_c"] = (hidden_size,)
        shapes |= self.cell.alphas(hidden_size)
        self.fields = tuple(shapes)  # of `Weights`
        for name in self.names():
            if name not in self.names(0):
                shapes["weight_ih"] = (gates, out_size * len(self.directions))
            for field, shape in shapes.items():
                self.register_parameter(f"{field}_{name}", nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            if self.batch_steps is not None:
                self.batch_steps[name] = BatchSteps(max_t, places, getattr(self.norm, "momentum", 0.1), device, dtype)
        if learned_state:
            for name in self.state_names:
                size = out_size if name == "h0" else hidden_size
                self.register_parameter(name, nn.Parameter(torch.empty(len(self.names()), size, device=device, dtype=dtype)))
        for name in self.names():
            for field in ("weight_ih", "weight_hh", "weight_hr"):
                if field in self.fields:
                    self.norm.weight(self, f"{field}_{name}")
        self.reset_parameters()

    @property
    def mode(self) -> str:
        """torch's name of the kind of layer: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU"."""
        return f"RNN_{self.cell.nonlinearity.upper()}" if self.kind == "rnn" else self.kind.upper()

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each direction of each layer, as in torch, followed by those of the norm."""
        return [[getattr(self, f"{field}_{name}") for field in self.fields] for name in self.names()]

    def flatten_parameters(self) -> None:
        """Nothing: for code written for torch's layers. Weights are not stored in one block here."""

    def names(self, layer: int | None = None) -> list[str]:
        """The suffixes of parameters, one for each direction of a layer (None: of all layers): l0, l0_reverse, l1, ..."""
        layers = range(self.num_layers) if layer is None else [layer]
        return [f"l{n}{direction}" for n in layers for direction in self.directions]

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set a parameter, also one that weight normalisation has reparametrised: `layer.assign("weight_hh_l0", matrix)`."""
        if parametrize.is_parametrized(self, name):
            setattr(self, name, value)
        else:
            self.get_parameter(name).copy_(value)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as torch's layers do, value by value; then set biases, gains and learned states."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name in self.names():
            for field in DRAWN:
                full = f"{field}_{name}"
                if field in self.fields:
                    self.assign(full, torch.empty_like(getattr(self, full)).uniform_(-bound, bound))
                elif field.startswith("bias") and self.bias:  # a norm without biases: later draws are those of other norms
                    getattr(self, f"weight_ih_{name}").new_empty(GATES[self.kind] * self.hidden_size).uniform_()
        for name in self.names():
            set_initial(self.weights(name), self.cell, self.norm, self.forget_bias)
        for module in self.modules():
            if isinstance(module, BatchSteps):
                module.reset_running_stats()
        for name in self.state_names:
            if self.learned_state:
                nn.init.zeros_(getattr(self, name))
                if self.state_std:
                    nn.init.normal_(getattr(self, name), std=self.state_std)

    def weights(self, name: str) -> Weights:
        """The parameters of one direction of one layer; `name` is its suffix, such as l0 or l1_reverse."""
        found: dict[str, Tensor | None] = {}
        for field in self.fields:
            full = f"{field}_{name}"
            found[field] = self._parameters[full] if full in self._parameters else getattr(self, full)
        return Weights(**found)  # type: ignore[arg-type]


def check_units(norm: Norm, hidden_size: int) -> None:
    """Raise a NormError if a norm would be over a single unit, which it maps to 0 whatever its input."""
    groups = norm.groups_of(hidden_size)
    if norm.recurrent() in ("ln", "group") and hidden_size == groups:
        least = f"more than norm.groups={groups}" if groups > 1 else "2 or more"
        raise NormError(
            f"hidden_size={hidden_size}: must be {least} with norm={norm.name}, which maps a single unit to 0 whatever its input"
        )


def norm_of(norm: str | Norm) -> Norm:
    """The norm of that name, or the one given. Raises a ValueError for a name that is not in `NORMS`."""
    if isinstance(norm, Norm):
        return norm
    if norm not in NORMS:
        raise ValueError(f"norm={norm}: allowed are {', '.join(NORMS)}")
    return NORMS[norm]()
