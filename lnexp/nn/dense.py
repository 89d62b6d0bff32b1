"""Modules that normalise the summed inputs a_BN of fully connected layers, or their weights, where torch.nn has none that fits.

Shapes: B batch, N features.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm

from lnexp.nn.ops.autograd import transformed, with_higher_derivatives


class RMSDense(nn.Module):
    """a_BN -> gain_N * a_BN / sqrt(mean_N(a^2) + eps) + bias_N.

    Args:
        gain: initial value of the gain; None: no gain.
        bias: whether there is a bias; it starts at 0.
    """

    def __init__(self, n: int, eps: float, gain: float | None, bias: bool = True) -> None:
        super().__init__()
        self.n, self.eps = n, eps
        self.weight = None if gain is None else nn.Parameter(torch.full((n,), gain))
        self.bias = nn.Parameter(torch.zeros(n)) if bias else None

    def forward(self, a_BN: Tensor) -> Tensor:
        a_BN = F.rms_norm(a_BN, (self.n,), self.weight, self.eps)
        return a_BN if self.bias is None else a_BN + self.bias


class GroupDense(nn.Module):
    """Layer normalisation of each of `groups` equal groups of the N features, with gain_N and bias_N as `RMSDense` has them."""

    def __init__(self, n: int, groups: int, eps: float, gain: float | None, bias: bool = True) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = None if gain is None else nn.Parameter(torch.full((n,), gain))
        self.bias = nn.Parameter(torch.zeros(n)) if bias else None

    def forward(self, a_BN: Tensor) -> Tensor:
        return torch.group_norm(a_BN, self.groups, self.weight, self.bias, self.eps)


class TanhUnits(nn.Module):
    """a -> gain_N * tanh(alpha a) + bias_N, for a_BN or feature maps a_BNXY.

    Args:
        n: N, the number of features or channels.
        alpha: initial value of the one scale inside.
        gain, bias: as `RMSDense`.
    """

    def __init__(self, n: int, alpha: float, gain: float | None, bias: bool = True) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = None if gain is None else nn.Parameter(torch.full((n,), gain))
        self.bias = nn.Parameter(torch.zeros(n)) if bias else None

    def forward(self, a: Tensor) -> Tensor:
        a = (self.alpha * a).tanh()
        shape = (-1, *[1] * (a.dim() - 2))
        a = a if self.weight is None else a * self.weight.view(shape)
        return a if self.bias is None else a + self.bias.view(shape)


class BatchDense(nn.BatchNorm1d):
    """torch's BatchNorm1d, with the unbiased variance for batches of at most `unbiased_up_to` cases.

    Args:
        gain: initial value of the gain; None: neither gain nor bias.
        bias: whether there is a bias, with a gain.
        synchronised: in training in several processes, take mean and variance over the cases of all of them.

    Attributes:
        parts: in training, part r takes statistics of its own over cases r, r + parts, ..., as process r of that many does; the
            running averages are the first part's, as those of the first process.
    """

    parts = 1

    def __init__(
        self,
        n: int,
        eps: float,
        momentum: float,
        unbiased_up_to: int,
        gain: float | None = 1.0,
        bias: bool = True,
        synchronised: bool = False,
    ) -> None:
        super().__init__(n, eps=eps, momentum=momentum, affine=gain is not None)
        self.synchronised = synchronised
        self.unbiased_up_to, self.usual_momentum = unbiased_up_to, momentum
        if gain is not None:
            nn.init.constant_(self.weight, gain)
        if not bias:
            self.register_parameter("bias", None)

    def start_recalibration(self) -> None:
        """Forget all batches; from now on statistics are the plain mean over batches (torch's momentum of None)."""
        self.reset_running_stats()
        self.usual_momentum, self.momentum = self.momentum, None  # type: ignore[assignment]

    def finish_recalibration(self) -> None:
        """Go back to running averages."""
        self.momentum = self.usual_momentum

    def forward(self, a_BN: Tensor) -> Tensor:
        together = self.momentum is None  # statistics for evaluation: of whole batches, in one process
        if not self.training or together:
            return self.whole(a_BN)
        if self.synchronised and dist.is_available() and dist.is_initialized():
            return self.over_processes(a_BN)
        return self.whole(a_BN) if self.parts == 1 else self.in_parts(a_BN)

    def in_parts(self, a_BN: Tensor) -> Tensor:
        """Each part normalised by itself: one more factor of the features."""
        P, (cases, n) = self.parts, a_BN.shape
        if cases % P:
            raise ValueError(f"a batch of {cases} cases: must be a multiple of the {P} parts with statistics of their own")
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        k = 1 - P / cases if cases // P <= self.unbiased_up_to else 1.0
        mean, var = self.running_mean.repeat(P), self.running_var.repeat(P)
        gain, bias = (None if t is None else t.repeat(P) for t in (self.weight, self.bias))
        gain = (a_BN.new_ones(P * n) if gain is None else gain) * k**0.5
        normal = F.batch_norm(a_BN.reshape(cases // P, P * n), mean, var, gain, bias, True, self.momentum or 0.0, self.eps * k)
        self.running_mean.copy_(mean[:n])
        self.running_var.copy_(var[:n])
        return normal.view(cases, n)

    def over_processes(self, a_BN: Tensor) -> Tensor:
        """Mean and variance over the cases of all processes, with gradients through both."""
        from torch.distributed.nn.functional import all_reduce

        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        cases = a_BN.shape[0] * dist.get_world_size()
        centred_BN = a_BN - all_reduce(a_BN.sum(dim=0)) / cases
        squares_N = all_reduce(centred_BN.square().sum(dim=0))
        normal_BN = centred_BN / (squares_N / (cases - 1 if cases <= self.unbiased_up_to else cases) + self.eps).sqrt()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_((a_BN - centred_BN)[0], self.momentum or 0.0)
            self.running_var.lerp_(squares_N / (cases - 1), self.momentum or 0.0)
        normal_BN = normal_BN if self.weight is None else normal_BN * self.weight
        return normal_BN if self.bias is None else normal_BN + self.bias

    def whole(self, a_BN: Tensor) -> Tensor:
        """Statistics over all cases at hand."""
        cases = a_BN.shape[0]
        if not self.training or cases > self.unbiased_up_to:
            return super().forward(a_BN)
        # (a - mu) / sqrt(v / k + eps), k = 1 - 1/count, equals sqrt(k) (a - mu) / sqrt(v + k eps), which torch's kernel computes.
        k = 1 - a_BN.shape[1] / a_BN.numel()
        seen = self.num_batches_tracked
        assert seen is not None
        seen.add_(1)
        share = 1 / seen.item() if self.momentum is None else self.momentum
        gain = (a_BN.new_ones(a_BN.shape[1]) if self.weight is None else self.weight) * k**0.5
        return F.batch_norm(a_BN, self.running_mean, self.running_var, gain, self.bias, True, share, self.eps * k)


class UnitWeights(_WeightNorm):
    """torch's weight normalisation w = g v / |v| with right second derivatives: those of torch's own function are wrong."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or transformed([g, v]):
            return unit_weights(g, v)[0]
        (w,) = with_higher_derivatives(unit_weights, [g, v], [super().forward(g, v)])
        return w


def unit_weights(g: Tensor, v: Tensor) -> list[Tensor]:
    """g v / |v|, with one norm for each row of v."""
    return [g * v / v.flatten(1).norm(dim=1).view_as(g)]
