"""The norms: a `Norm` defines what is normalised; the model decides where (paper sections 3 and 5.1).

All are cases of the paper's equation (5): h = f(g / sigma * (a - mu) + b), with a = W x the summed inputs:

    none  mu = 0, sigma = 1, no gain          ln   mu, sigma over the units of one case      (equations 3, 4)
    bn    mu, sigma over the cases of a batch rms  mu = 0, sigma = root mean square over the units
    wn    mu = 0, sigma = |w| of each unit

A norm may add gains and biases, all constant at the start. It never draws a random number: with one seed, all norms start from
the same weights.

Shapes: B batch, N features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lnexp.nn.dense import BatchDense, RMSDense, UnitWeights
from lnexp.nn.ops.recurrent.interface import CELL_NORMS


class Norm(ABC):
    """Base class of all norms.

    A subclass sets in its own body `name` (of configurations and tables), `label` (of figures) and `cells`: what recurrent cells
    do with it, "none", "bn", "ln" or "rms". Recurrent layers refuse a norm whose class does not set `cells` itself.

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

    @abstractmethod
    def dense(self, n: int) -> nn.Module:
        """The module that normalises summed inputs a_BN of a fully connected layer; it returns the same shape."""

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


class NoNorm(Norm):
    """No normalisation: the baseline."""

    name = cells = "none"
    label = "no normalisation"

    def dense(self, n: int) -> nn.Module:
        return nn.Identity()


class LayerNorm(Norm):
    """Layer normalisation: mean and variance over the units of a layer, for each case separately (equations 3 and 4)."""

    name = cells = "ln"
    label = "layer norm"
    shifts = True

    def dense(self, n: int) -> nn.Module:
        layer = nn.LayerNorm(n, eps=self.eps, elementwise_affine=self.affine, bias=self.bias)
        if self.affine:
            nn.init.constant_(layer.weight, self.gain)
        return layer


class RMSNorm(Norm):
    """Root mean square normalisation (Zhang and Sennrich 2019): layer normalisation without subtracting the mean."""

    name = cells = "rms"
    label = "RMS norm"
    shifts = True

    def dense(self, n: int) -> nn.Module:
        return RMSDense(n, self.eps, self.gain if self.affine else None, self.bias)


class WeightNorm(Norm):
    """Weight normalisation (Salimans and Kingma 2016): w = g v / |v| per unit, with g = |v| at the start."""

    name = "wn"
    label = "weight norm"
    cells = "none"

    def dense(self, n: int) -> nn.Module:
        return nn.Identity()

    def weight(self, layer: nn.Module, name: str = "weight") -> nn.Module:
        layer = weight_norm(layer, name, dim=0)
        layer.parametrizations[name][0] = UnitWeights(dim=0)  # type: ignore[index,assignment]
        return layer


class BatchNorm(Norm):
    """Batch normalisation (Ioffe and Szegedy 2015): mean and variance over the cases of the batch.

    Args:
        unbiased_up_to: largest batch that is normalised with the unbiased variance (paper section 6.6 does it at batch 4);
            larger ones use the biased one. Recurrent layers always use the biased one.
        statistics: used in evaluation. "population": estimated over training batches before each evaluation, as in Ioffe and
            Szegedy's algorithm 2; "running": exponential averages updated during training.
        momentum: weight of the newest batch in the running averages.
        synchronised: in training in several processes, dense layers take statistics over the cases of all of them; otherwise
            each process takes its own. Recurrent layers refuse it.

    Raises:
        ValueError: an unknown `statistics`.
    """

    name = cells = "bn"
    label = "batch norm"
    shifts = True

    def __init__(
        self,
        eps: float = 1e-5,
        gain: float | None = None,
        unbiased_up_to: int = 0,
        statistics: str = "population",
        momentum: float = 0.1,
        affine: bool = True,
        bias: bool = True,
        synchronised: bool = False,
    ) -> None:
        super().__init__(eps, gain, affine, bias)
        self.synchronised, self.parts = synchronised, 1
        self.step_gain = 0.1 if gain is None else gain
        if statistics not in ("population", "running"):
            raise ValueError(f"norm.statistics={statistics}: allowed are population, running")
        self.unbiased_up_to, self.statistics, self.momentum = unbiased_up_to, statistics, momentum

    def dense(self, n: int) -> nn.Module:
        return self.over_cases(n, self.gain)

    def over_cases(self, n: int, gain: float) -> BatchDense:
        affine = gain if self.affine else None
        layer = BatchDense(n, self.eps, self.momentum, self.unbiased_up_to, affine, self.bias, self.synchronised)
        layer.parts = self.parts
        return layer

    def recurrent(self) -> str:
        """As `Norm.recurrent`. Raises a ValueError where statistics are of parts of a batch, or of several processes."""
        if self.parts > 1 or self.synchronised:
            what = "synchronised statistics" if self.synchronised else f"statistics of {self.parts} parts of a batch"
            raise ValueError(f"norm={self.name}: recurrent layers have no {what}")
        return super().recurrent()

    def split(self, parts: int) -> None:
        if parts < 1:
            raise ValueError(f"parts={parts}: must be 1 or more")
        self.parts = parts

    def calibrate(self, model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
        """As `Norm.calibrate`; running statistics are not changed."""
        if self.statistics == "population":
            super().calibrate(model, forward, batches)

    def check_batch(self, batch_size: int) -> None:
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: norm={self.name} needs at least 2 cases to have a variance")
        if batch_size % self.parts or batch_size < 2 * self.parts:
            raise ValueError(f"batch_size={batch_size}: must be a multiple of {self.parts} parts of 2 cases or more each")


class BatchNormEverywhere(BatchNorm):
    """Batch normalisation that a model with recurrent layers also applies outside of them (Cooijmans et al. 2016, section 5.4).

    There its gain starts as inside them, at 0.1. Models without recurrent layers are the same as under `BatchNorm`.
    """

    name = "bn_everywhere"
    label = "batch norm everywhere"
    cells = "bn"

    def term(self, n: int) -> nn.Module:
        return self.over_cases(n, self.step_gain)


NORMS: dict[str, type[Norm]] = {
    norm.name: norm
    for norm in (
        NoNorm,
        BatchNorm,
        LayerNorm,
        WeightNorm,
        RMSNorm,
        BatchNormEverywhere,
    )
}
