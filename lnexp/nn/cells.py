"""RNN, LSTM and GRU cells with normalisation: one time step, called like torch's cells.

    cell = lnexp.nn.LSTMCell(300, 1024, norm="ln")
    for x_BI in xs_TBI:
        h_BH, c_BH = cell(x_BI, (h_BH, c_BH))

A cell equals the layer of its kind step by step. Its parameters have the layer's names without `_l0`, which are those of torch's
cells and `gain_ih`, `gain_hh`, `gain_c`, `bias_c`, `bias_in`. From a layer of one layer and direction without `learned_state`:

    cell.load_state_dict({name.replace("_l0", "").replace(".l0", ""): value for name, value in layer.state_dict().items()})

Shapes: B batch, I input, H hidden, G gates * H (LSTM 4H, GRU 3H, RNN H), M steps with batch statistics of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.norms import Norm
from lnexp.nn.ops.autograd import without_autocast
from lnexp.nn.ops.recurrent import cpu_step
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Stats, Weights
from lnexp.nn.ops.recurrent.step import step
from lnexp.nn.recurrent_parameters import DRAWN, check_units, norm_of, set_initial


class CellOptions(TypedDict, total=False):
    """Keyword arguments that the three cells have beyond torch's: those of `lnexp.nn.recurrent_parameters.Options` for a step."""

    norm: str | Norm
    placement: str
    max_t: int | None


class _RecurrentCell(nn.Module):
    """Parameters of one cell, and one step of it."""

    kind: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: Any,
        dtype: torch.dtype | None,
        nonlinearity: str = "tanh",
        forget_bias: float = 0.0,
        /,
        *,
        norm: str | Norm = "ln",
        placement: str = "all_gates",
        max_t: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be 1 or more")
        if not bias and (placement == "bias_inside" or forget_bias):
            raise ValueError(f"bias=False: excludes placement={placement} and forget_bias={forget_bias}, which need biases")
        self.norm = norm_of(norm)
        groups = self.norm.groups_of(hidden_size)
        self.cell = Cell(self.kind, self.norm.recurrent(), self.norm.eps, placement, nonlinearity, groups)
        check_units(self.norm, hidden_size)
        self.input_size, self.hidden_size, self.bias, self.forget_bias = input_size, hidden_size, bias, forget_bias
        gates, places = GATES[self.kind] * hidden_size, self.cell.places(hidden_size)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, input_size), "weight_hh": (gates, hidden_size)}
        if bias and (self.cell.gates_norm == "none" or self.norm.gate_bias):
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.cell.bias_inside:
            shapes["bias_in"] = (gates,)
        if self.norm.affine:
            shapes |= {f"gain_{place}": (features,) for place, features in places.items()}
        if bias and self.norm.bias and "c" in places:
            shapes["bias_c"] = (hidden_size,)
        shapes |= self.cell.alphas(hidden_size)
        self.fields = tuple(shapes)  # of `Weights`
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.batch_steps = None
        if self.cell.norm == "bn":
            self.batch_steps = BatchSteps(max_t, places, getattr(self.norm, "momentum", 0.1), device, dtype)
        for name in ("weight_ih", "weight_hh"):
            self.norm.weight(self, name)
        self._packed: _Packed | None = None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as torch's cells do, value by value; then set biases and gains as the layers do."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name in DRAWN:
            if name in self.fields:
                value = torch.empty_like(getattr(self, name)).uniform_(-bound, bound)
                if parametrize.is_parametrized(self, name):
                    setattr(self, name, value)
                else:
                    self.get_parameter(name).copy_(value)
            elif name.startswith("bias") and self.bias:  # a norm without biases: later draws are those of other norms
                cast(Tensor, self.weight_ih).new_empty(GATES[self.kind] * self.hidden_size).uniform_()
        set_initial(self.weights(), self.cell, self.norm, self.forget_bias)
        if self.batch_steps is not None:
            self.batch_steps.reset_running_stats()

    def weights(self) -> Weights:
        """The parameters; None where the cell has no such parameter."""
        own = self._parameters
        return Weights(**{field: own[field] if field in own else getattr(self, field) for field in self.fields})  # type: ignore[arg-type]

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Pack the weights once for all steps inside a `with` block; for sampling and other steps without gradients.

            with torch.no_grad(), cell.packed():
                for _ in range(steps):
                    state = cell(x_BI, state)

        Outside of the block nothing is kept. Inside, the weights are packed again when torch counts a change of a parameter (an
        optimiser's step, `load_state_dict`, `copy_`, another tensor in its place). It does not count `p.data.add_(1)`, nor what
        NumPy writes into the memory: do not change weights in such ways inside the block. Steps that need gradients or batch
        statistics, and all where the kernels cannot be used, are computed as outside.
        """
        self._packed = self._packed or _Packed()
        self._packed.blocks += 1
        packed = self._packed
        try:
            yield
        finally:
            packed.blocks -= 1
            if not packed.blocks:  # blocks of generators or threads may end in any order
                self._packed = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # copies and pickles do not share packed weights

    def forward(self, input: Tensor, hx: Any = None, *, t: int | None = None) -> Any:
        """Take one step.

        Args:
            input: [B, I], or [I] for one case.
            hx: the states before the step: h [B, H] ([H]), for LSTM a pair (h, c). None: zeros.
            t: number of the step, 0 for the first. Required by bn, ignored by other norms.

        Returns:
            h after the step, for LSTM a pair (h, c); shaped as the states.

        Raises:
            ValueError: a shape does not fit; bn without t, or trained on fewer than 2 cases.
        """
        if self._packed is not None and hx is not None and self.batch_steps is None:
            new = self._packed.step(self, input, hx)
            if new is not None:
                return new
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(f"input.shape={tuple(input.shape)}: must be (batch, {self.input_size}) or ({self.input_size},)")
        batched = input.dim() == 2
        x_BI = input if batched else input[None]
        given, number = [x_BI, *self._states(hx, x_BI, batched)], self._step_number(t)
        device = x_BI.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            new = self._autocast_step(given, number)
        else:
            new = self._step(given[0], given[1], given[2] if len(given) > 2 else None, number)
        if not batched:
            new = tuple(state_BH[0] for state_BH in new)
        return new if len(new) > 1 else new[0]

    def _states(self, hx: Any, x_BI: Tensor, batched: bool) -> list[Tensor]:
        """The states before the step, [B, H] each."""
        shape = (x_BI.shape[0], self.hidden_size)
        names = ("h", "c") if self.kind == "lstm" else ("h",)
        if hx is None:
            return [x_BI.new_zeros(shape)] * len(names)
        given = hx if self.kind == "lstm" else (hx,)
        if not isinstance(given, (tuple, list)) or len(given) != len(names) or not all(isinstance(s, Tensor) for s in given):
            wanted = "a pair of tensors (h, c)" if self.kind == "lstm" else "a tensor h"
            raise ValueError(f"hx is a {type(hx).__name__}: must be {wanted}")
        wanted_shape = shape if batched else shape[1:]
        for name, state in zip(names, given, strict=True):
            if state.shape != wanted_shape:
                raise ValueError(f"hx: {name}.shape={tuple(state.shape)}: must be {wanted_shape}")
        return list(given) if batched else [state[None] for state in given]

    def _step_number(self, t: int | None) -> int:
        if self.batch_steps is not None and (t is None or t < 0):
            raise ValueError(f"t={t}: norm={self.norm.name} needs the number of the step, 0 for the first")
        return t or 0

    def _autocast_step(self, given: list[Tensor], t: int) -> tuple[Tensor, ...]:
        """The step in the type of the parameters; the results have the type that torch's cells give them."""
        result = given[0].dtype
        for tensor in given[1:]:
            result = torch.promote_types(result, tensor.dtype)
        device = given[0].device
        if result != torch.float64 and (self.kind == "rnn" or device.type != "cpu"):
            result = torch.get_autocast_dtype(device.type)
        own = next(self.parameters()).dtype
        x_BI, h_BH, *c_BH = (tensor.to(own) for tensor in given)
        with without_autocast(device):
            new = self._step(x_BI, h_BH, c_BH[0] if c_BH else None, t)
        return tuple(state_BH.to(result) for state_BH in new)

    def _step(self, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None, t: int) -> tuple[Tensor, ...]:
        if self._packed is not None:
            weights = self._packed.get(self, x_BI, h_BH, c_BH)
            if weights is not None:
                h_new_BH, c_new_BH = weights.step(x_BI, h_BH, c_BH, t)
                return (h_new_BH,) if c_new_BH is None else (h_new_BH, c_new_BH)
        stats: Stats | None = None
        if self.batch_steps is not None and self.training:
            self.norm.check_batch(x_BI.shape[0])
        elif self.batch_steps is not None:
            stats = self.batch_steps.population(1, t)
        h_new_BH, c_new_BH, seen = step(self.cell, self.weights(), x_BI, h_BH, c_BH, stats)
        if self.batch_steps is not None and seen is not None:
            self.batch_steps.update(seen, torch.tensor([x_BI.shape[0]], device="cpu"), t)
        return (h_new_BH,) if c_new_BH is None else (h_new_BH, c_new_BH)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, norm={self.norm.name}" + ("" if self.bias else ", bias=False")
        return text if self.cell.placement == "all_gates" else f"{text}, placement={self.cell.placement}"


class _Packed:
    """The packed weights of one cell inside its `packed` block."""

    def __init__(self) -> None:
        self.blocks = 0  # that have been entered and not left
        self.weights: cpu_step.PackedWeights | None = None
        self.own: Mapping[str, Any] = {}
        self.fields: tuple[str, ...] = ()
        self.stores: list[Mapping[str, Any]] = []
        self.seen: list[tuple[int, int]] = []
        self.held: list[Tensor] = []  # so that no other tensor comes to lie where they do

    def get(self, cell: _RecurrentCell, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None) -> cpu_step.PackedWeights | None:
        """The weights for one step; None where the step cannot be done with them."""
        if (cell.batch_steps is not None and cell.training) or not cpu_step.reachable(x_BI, h_BH, c_BH) or not x_BI.shape[0]:
            return None
        try:
            if self.weights is None or self._versions() != self.seen:
                self._pack(cell, x_BI, h_BH, c_BH)
        except RuntimeError:  # tensors made under inference_mode have no version
            return None
        if self.weights is None or self.weights.dtype != x_BI.dtype:
            return None
        if torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in (x_BI, h_BH, c_BH, *self.held)):
            return None
        return self.weights

    def step(self, cell: _RecurrentCell, x_BI: Tensor, hx: Any) -> Any:
        """The result of the usual step; None for any other, and for what must be refused."""
        h_BH, c_BH = hx if type(hx) is tuple and len(hx) == 2 else (hx, None)
        if (
            (c_BH is not None) != (cell.kind == "lstm")
            or type(x_BI) is not Tensor
            or x_BI.dim() != 2
            or type(h_BH) is not Tensor
            or (c_BH is not None and (type(c_BH) is not Tensor or c_BH.shape != h_BH.shape))
            or h_BH.shape != (x_BI.shape[0], cell.hidden_size)
            or x_BI.shape != (h_BH.shape[0], cell.input_size)
            or torch.is_autocast_enabled("cpu")
        ):
            return None
        weights = self.get(cell, x_BI, h_BH, c_BH)
        if weights is None:
            return None
        h_new_BH, c_new_BH = weights.step(x_BI, h_BH, c_BH, 0)
        return h_new_BH if c_new_BH is None else (h_new_BH, c_new_BH)

    def _versions(self) -> list[tuple[int, int]]:
        replaced = [self.own[name] for name in self.fields if name in self.own]  # by tensors of the cell itself
        return [(t.data_ptr(), t._version) for t in replaced] + [
            (t.data_ptr(), t._version) for store in self.stores for t in store.values() if t is not None
        ]

    @torch.no_grad()
    def _pack(self, cell: _RecurrentCell, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None) -> None:
        self.weights = None
        self.own, self.fields = vars(cell), cell.fields
        self.stores = [store for module in cell.modules() for store in (module._parameters, module._buffers) if store]
        w = cell.weights()
        sizes = (w.weight_ih.shape[1], w.weight_hh.shape[1])
        if sizes != (cell.input_size, cell.hidden_size) or not cpu_step.fits(cell.cell, w, x_BI, h_BH, c_BH):
            return
        self.seen = self._versions()
        self.held = [t for store in (self.own, *self.stores) for t in store.values() if isinstance(t, Tensor)]
        population = None if cell.batch_steps is None else cell.batch_steps.population(cell.batch_steps.max_t)
        self.weights = cpu_step.PackedWeights(cell.cell, w, population)


class RNNCell(_RecurrentCell):
    """h' = f(gain_hh N(W_ih x + W_hh h) + bias_ih + bias_hh) with f = `nonlinearity`, tanh or relu (equation 4).

    With ln, zero pre-activations (a zero input and a zero state) leave only eps to divide by: see `lnexp.nn.RNN`.
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, nonlinearity, **options)
        self.nonlinearity = nonlinearity


class LSTMCell(_RecurrentCell):
    """Equations (20)-(22): the new cell c' is normalised where the output reads it and carried on as it is.

    With ln, zero pre-activations (a zero input and a zero state) leave only eps to divide by: see `lnexp.nn.LSTM`.

    Args:
        forget_bias: added to bias_ih of the forget gate at initialisation.
    """

    kind = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        forget_bias: float = 0.0,
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, "tanh", forget_bias, **options)


class GRUCell(_RecurrentCell):
    """Equations (23)-(28) in torch's form: the reset gate follows the recurrent matrix, and z is the paper's 1 - z.

    With ln, zero pre-activations (a zero input and a zero state) leave only eps to divide by: see `lnexp.nn.GRU`.
    """

    kind = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, **options)
