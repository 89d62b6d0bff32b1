"""The norms: a `Norm` defines what is normalised; the model decides where (paper sections 3 and 5.1).

All are cases of the paper's equation (5): h = f(g / sigma * (a - mu) + b), with a = W x the summed inputs:

    none  mu = 0, sigma = 1, no gain          ln   mu, sigma over the units of one case      (equations 3, 4)
    bn    mu, sigma over the cases of a batch rms  mu = 0, sigma = root mean square over the units
    wn    mu = 0, sigma = |w| of each unit    ln_simple  as ln, without gain and bias
    group as ln, in groups of units           dyt  no statistics: f(g tanh(alpha a) + b)

A norm may add gains and biases, all constant at the start. It never draws a random number: with one seed, all norms start from
the same weights.

Shapes: B batch, N features, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lnexp.nn.conv import BatchConv, UnitsConv
from lnexp.nn.dense import BatchDense, RMSDense, UnitWeights
from lnexp.nn.norm_base import Norm, NormError
from lnexp.nn.norms_beyond import DynamicTanh, GroupNorm


class NoNorm(Norm):
    """No normalisation: the baseline."""

    name = cells = "none"
    label = "no normalisation"

    def dense(self, n: int) -> nn.Module:
        return nn.Identity()

    def conv(self, channels: int, over: str = "map") -> nn.Module:
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

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        return UnitsConv(channels, self.eps, self.gain if self.affine else None, self.bias, over)


class SimpleLayerNorm(LayerNorm):
    """Layer normalisation without gain and bias, N(a) alone (LayerNorm-simple of Xu et al. 2019).

    The layer's own bias stays: of a fully connected or convolutional layer inside the norm, of a recurrent cell's gates behind
    it, the b of equation (20).
    """

    name = "ln_simple"
    label = "layer norm, no gain or bias"
    cells = "ln"

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__(eps, affine=False)
        self.gate_bias = True


class RMSNorm(Norm):
    """Root mean square normalisation (Zhang and Sennrich 2019): layer normalisation without subtracting the mean."""

    name = cells = "rms"
    label = "RMS norm"
    shifts = True

    def dense(self, n: int) -> nn.Module:
        return RMSDense(n, self.eps, self.gain if self.affine else None, self.bias)

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        return UnitsConv(channels, self.eps, self.gain if self.affine else None, self.bias, over, centred=False)


class WeightNorm(Norm):
    """Weight normalisation (Salimans and Kingma 2016): w = g v / |v| per unit, with g = |v| at the start."""

    name = "wn"
    label = "weight norm"
    cells = "none"

    def dense(self, n: int) -> nn.Module:
        return nn.Identity()

    def conv(self, channels: int, over: str = "map") -> nn.Module:
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

    def conv(self, channels: int, over: str = "map") -> nn.Module:
        """Over cases and positions, for each channel. Raises a NormError for statistics of parts, or of several processes."""
        self.check_local("layers of feature maps")
        gain = self.gain if self.affine else None
        return BatchConv(channels, self.eps, self.momentum, self.unbiased_up_to, gain, self.bias)

    def over_cases(self, n: int, gain: float) -> BatchDense:
        affine = gain if self.affine else None
        layer = BatchDense(n, self.eps, self.momentum, self.unbiased_up_to, affine, self.bias, self.synchronised)
        layer.parts = self.parts
        return layer

    def recurrent(self) -> str:
        """As `Norm.recurrent`. Raises a NormError for statistics of parts of a batch, or of several processes."""
        self.check_local("recurrent layers")
        return super().recurrent()

    def check_local(self, layers: str) -> None:
        if self.parts > 1 or self.synchronised:
            what = "synchronised statistics" if self.synchronised else f"statistics of {self.parts} parts of a batch"
            raise NormError(f"norm={self.name}: {layers} have no {what}")

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
        SimpleLayerNorm,
        DynamicTanh,
        GroupNorm,
    )
}
