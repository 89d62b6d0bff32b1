"""The kinds of normalisation. A `Norm` says what is normalised; the model decides where (paper sections 3 and 5.1).

All of them are the one formula of the paper's equation (5): h = f(g / sigma * (a - mu) + b), with a = W x the summed inputs:

    none  mu = 0, sigma = 1, no gain          ln   mu, sigma over the units of one case      (equations 3, 4)
    bn    mu, sigma over the cases of a batch rms  mu = 0, sigma = root mean square over the units
    wn    mu = 0, sigma = |w| of each unit

A norm may add gains and biases, all of them constant at the start. It never draws a random number: with one seed, every norm
starts from the same weights.

Shapes: B batch, N features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lnexp.nn.batch_statistics import BatchSteps


class Norm:
    """No normalisation: the baseline, and the base of all others.

    Args:
        eps: added to the variance inside the root (the authors' code: 1e-5; the paper's formulas have none).
        gain: initial value of every gain. None: 1 (paper section 6), but 0.1 for batch normalisation inside a recurrent layer
            (Cooijmans et al. 2016, section 4: 1 saturates the tanh).
    """

    name = "none"
    label = "no normalisation"  # in figures and tables
    cells = "none"  # what recurrent cells do with it: none | bn | ln | rms
    shifts = False  # adds a bias after normalising, so that the linear layer in front of it needs none (equation 5)

    def __init__(self, eps: float = 1e-5, gain: float | None = None) -> None:
        if not eps >= 0:
            raise ValueError(f"norm.eps={eps}: must be 0 or more")
        self.eps, self.gain = eps, 1.0 if gain is None else gain
        self.step_gain = self.gain  # of recurrent layers

    def dense(self, n: int) -> nn.Module:
        """The module that normalises summed inputs a_BN of a fully connected layer; it returns the same shape."""
        return nn.Identity()

    def term(self, n: int) -> nn.Module:
        """The module that normalises one of the terms a_BN which a model with recurrent layers adds up outside of them.

        Only BN-everywhere does it (paper section 6.2).
        """
        return nn.Identity()

    def weight(self, layer: nn.Module, name: str = "weight") -> nn.Module:
        """The layer, with its parameter `name` reparametrised where the norm works on weights."""
        return layer

    def calibrate(self, model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
        """Make `model` ready for evaluation: population statistics from training batches, where the norm has any."""

    def check_batch(self, batch_size: int) -> None:
        """Raise a ValueError if this norm cannot be trained with that many cases in a batch."""


class LayerNorm(Norm):
    """Layer normalisation: mean and variance over the units of a layer, one case at a time (equations 3 and 4)."""

    name = cells = "ln"
    label = "layer norm"
    shifts = True

    def dense(self, n: int) -> nn.Module:
        layer = nn.LayerNorm(n, eps=self.eps)
        nn.init.constant_(layer.weight, self.gain)
        return layer


class RMSNorm(Norm):
    """Root mean square normalisation (Zhang and Sennrich 2019): layer normalisation without the centring."""

    name = cells = "rms"
    label = "RMS norm"
    shifts = True

    def dense(self, n: int) -> nn.Module:
        return RMSDense(n, self.eps, self.gain)


class RMSDense(nn.Module):
    """a_BN -> gain_N * a_BN / sqrt(mean_N(a^2) + eps) + bias_N."""

    def __init__(self, n: int, eps: float, gain: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((n,), gain))
        self.bias = nn.Parameter(torch.zeros(n))

    def forward(self, a_BN: Tensor) -> Tensor:
        return F.rms_norm(a_BN, self.weight.shape, self.weight, self.eps) + self.bias


class WeightNorm(Norm):
    """Weight normalisation (Salimans and Kingma 2016): w = g v / |v| per unit; g starts at |v|, the layer as it was."""

    name = "wn"
    label = "weight norm"

    def weight(self, layer: nn.Module, name: str = "weight") -> nn.Module:
        return weight_norm(layer, name, dim=0)


class BatchNorm(Norm):
    """Batch normalisation (Ioffe and Szegedy 2015): mean and variance over the cases of the batch.

    Args:
        unbiased_up_to: batches of at most so many cases are normalised with the unbiased variance (paper section 6.6 does it
            at batch 4), larger ones with the biased one. Recurrent layers always take the biased one.
        statistics: what evaluation uses. "population": estimated anew over training batches before each evaluation, as Ioffe
            and Szegedy do (their algorithm 2); "running": exponential averages kept during training.
        momentum: weight of the newest batch in the running averages.
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
    ) -> None:
        super().__init__(eps, gain)
        self.step_gain = 0.1 if gain is None else gain
        if statistics not in ("population", "running"):
            raise ValueError(f"norm.statistics={statistics}: allowed are population, running")
        self.unbiased_up_to, self.statistics, self.momentum = unbiased_up_to, statistics, momentum

    def dense(self, n: int) -> nn.Module:
        layer = BatchDense(n, self.eps, self.momentum, self.unbiased_up_to)
        nn.init.constant_(layer.weight, self.gain)
        return layer

    @torch.no_grad()
    def calibrate(self, model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
        """Set the statistics of every batch-normalised layer to their mean over `batches`, `forward` being called on each."""
        layers = [m for m in model.modules() if isinstance(m, (BatchDense, BatchSteps))]
        if self.statistics != "population" or not layers:
            return
        was_training = model.training
        model.train()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's name for the plain mean over all batches since the reset
        for batch in batches:
            forward(batch)
        for layer in layers:
            layer.momentum = self.momentum
        model.train(was_training)

    def check_batch(self, batch_size: int) -> None:
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: norm={self.name} needs at least 2 cases to have a variance")


class BatchNormEverywhere(BatchNorm):
    """Batch normalisation that a model with recurrent layers also applies outside of them (Cooijmans et al. 2016, section 5.4).

    There its gain starts as inside them, at 0.1. Models without recurrent layers do as under `BatchNorm`.
    """

    name = "bn_everywhere"
    label = "batch norm everywhere"

    def term(self, n: int) -> nn.Module:
        layer = BatchDense(n, self.eps, self.momentum, self.unbiased_up_to)
        nn.init.constant_(layer.weight, self.step_gain)
        return layer


class BatchDense(nn.BatchNorm1d):
    """torch's BatchNorm1d; batches of at most `unbiased_up_to` cases are normalised with the unbiased variance."""

    def __init__(self, n: int, eps: float, momentum: float, unbiased_up_to: int) -> None:
        super().__init__(n, eps=eps, momentum=momentum)
        self.unbiased_up_to = unbiased_up_to

    def forward(self, a_BN: Tensor) -> Tensor:
        cases = a_BN.shape[0]
        if not self.training or cases > self.unbiased_up_to:
            return super().forward(a_BN)
        # (a - mu) / sqrt(v / k + eps), k = 1 - 1/cases, is sqrt(k) (a - mu) / sqrt(v + k eps): torch's own kernel does it.
        k = 1 - 1 / cases
        seen = self.num_batches_tracked
        assert seen is not None
        seen.add_(1)
        share = 1 / seen.item() if self.momentum is None else self.momentum
        gain = self.weight * k**0.5
        return F.batch_norm(a_BN, self.running_mean, self.running_var, gain, self.bias, True, share, self.eps * k)


NORMS: dict[str, type[Norm]] = {n.name: n for n in (Norm, BatchNorm, LayerNorm, WeightNorm, RMSNorm, BatchNormEverywhere)}
