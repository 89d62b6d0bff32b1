"""The contract of a norm: what it does in each kind of layer.

Shapes: B batch, N features, C channels, X and Y positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import nn

from lnexp.nn.ops.recurrent.interface import CELL_NORMS


class NormError(ValueError):
    """A norm that does not fit the size or the kind of a layer."""


class Norm(ABC):
    """Base class of all norms.

    A subclass sets in its own body `name` (of configurations and tables), `label` (of figures) and `cells`: what recurrent cells
    do with it, one of `lnexp.nn.ops.recurrent.interface.CELL_NORMS`. Recurrent layers refuse a norm whose class does not set
    `cells` itself, convolutional nets one without `conv`.

    Args:
        eps: added to the variance inside the root (the authors' code: 1e-5; the paper's formulas have none).
        gain: initial value of every gain. None: 1 (paper section 6), but 0.1 for batch normalisation inside a recurrent layer
            (Cooijmans et al. 2016, section 4: 1 saturates the tanh).
        affine: whether the norm has gains and biases of its own (torch's `elementwise_affine`).
        bias: whether it has biases, with `affine`.

    Raises:
        ValueError: a negative eps.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    cells: ClassVar[str]
    shifts: bool = False  # has a bias after normalising, so that the linear layer in front of it needs none (equation 5)
    alpha: float = 0.5  # initial scale inside dynamic tanh

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in cls.__dict__ and "label" not in cls.__dict__:
            raise TypeError(f"{cls.__name__}: a norm with a name of its own needs a label of its own, for figures")

    def __init__(self, eps: float = 1e-5, gain: float | None = None, affine: bool = True, bias: bool = True) -> None:
        if not eps >= 0:
            raise ValueError(f"norm.eps={eps}: must be 0 or more")
        self.eps, self.gain = eps, 1.0 if gain is None else gain
        self.affine, self.bias = affine, affine and bias
        self.shifts = self.shifts and self.bias
        self.step_gain = self.gain  # of recurrent layers
        self.gate_bias = self.bias  # whether their gates have biases behind the norm

    @abstractmethod
    def dense(self, n: int) -> nn.Module:
        """The module that normalises summed inputs a_BN of a fully connected layer; it returns the same shape."""

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        """The module that normalises the feature maps a_BCXY of a convolutional layer; it returns the same shape.

        Gains and biases are one per channel, in every form.

        Args:
            channels: C.
            over: what a norm over the units of one case takes together: "map" channels and positions, "position" the channels at
                each position, "instance" the positions of each channel. Other norms ignore it.

        Raises:
            NormError: the norm has no form for feature maps, or `over` is unknown.
        """
        raise NormError(f"norm={self.name}: class {type(self).__name__} does not define conv, its form for feature maps")

    def groups_of(self, n: int) -> int:
        """Number of groups that the n units of a layer, gate or feature map form; 1 but for group normalisation.

        Raises:
            NormError: the groups do not divide the units.
        """
        return 1

    def term(self, n: int) -> nn.Module:
        """The module that normalises one of the terms a_BN which a model with recurrent layers adds up outside of them.

        The identity, except under BN-everywhere (paper section 6.2).
        """
        return nn.Identity()

    def weight(self, layer: nn.Module, name: str = "weight") -> nn.Module:
        """The layer, with its parameter `name` reparametrised if the norm acts on weights."""
        return layer

    def recurrent(self) -> str:
        """What recurrent cells do with this norm: its class's own `cells`.

        Raises:
            ValueError: the class does not set `cells` in its own body, or to something that no cell knows.
        """
        found = type(self).__dict__.get("cells")
        if found not in CELL_NORMS:
            allowed = ", ".join(map(repr, CELL_NORMS))
            got = "does not set cells itself" if found is None else f"has cells={found!r}"
            raise ValueError(f"norm={self.name}: class {type(self).__name__} {got}; recurrent layers need one of {allowed}")
        return found

    def calibrate(self, model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
        """Set the population statistics of `model` for evaluation from training batches: `forward` is called on each.

        Acts on all submodules with the methods `start_recalibration()`, which forgets statistics and begins a plain mean over
        the batches to come, and `finish_recalibration()`, which returns to the usual update. Runs in training mode without
        gradients; every module's mode is as before at the end, also if a batch raises. Without such modules, or batches, nothing
        is done.
        """
        modules = list(model.modules())
        layers: list[Any] = [m for m in modules if hasattr(m, "start_recalibration") and hasattr(m, "finish_recalibration")]
        if not layers:
            return
        modes = [module.training for module in modules]
        started = []
        try:
            model.train()
            for layer in layers:
                layer.start_recalibration()
                started.append(layer)
            with torch.no_grad():
                for batch in batches:
                    forward(batch)
        finally:
            for layer in started:
                layer.finish_recalibration()
            for module, training in zip(modules, modes, strict=True):
                module.training = training

    def split(self, parts: int) -> None:  # noqa: B027  most norms do not see other cases
        """In training, take each of `parts` equal parts of a batch by itself, as in that many processes: local statistics.

        Raises:
            ValueError: fewer than 1 part.
        """

    def check_batch(self, batch_size: int) -> None:  # noqa: B027  most norms can be trained with any batch
        """Raise a ValueError if this norm cannot be trained with that many cases in a batch."""
