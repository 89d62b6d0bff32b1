"""Population statistics of a batch-normalised recurrent layer, one set for each time step (Cooijmans et al. 2016, section 3).

Shapes: T time, M = max_t steps with statistics of their own, K steps of a batch that update them, F features of one place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lnexp.nn.ops.recurrent.interface import Stats


class BatchSteps(nn.Module):
    """Mean and variance of the population at each of the first `max_t` steps, estimated from training batches.

    Each place has two buffers [max_t, F], `mean_*` and `var_*` (0 and 1 at first). Variances are unbiased, as in Ioffe and
    Szegedy's algorithm 2 and torch's own layers.

    Args:
        max_t: number of steps with statistics of their own.
        features: number of features of each place that is normalised: "ih", "hh", "c".
        momentum: weight of the newest batch; None: the plain mean over all batches since the last reset.

    Raises:
        ValueError: max_t is None or less than 1.
    """

    def __init__(
        self,
        max_t: int | None,
        features: dict[str, int],
        momentum: float | None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if max_t is None or max_t < 1:
            raise ValueError(f"max_t={max_t}: norm=bn needs the number of steps with statistics of their own, 1 or more")
        self.max_t, self.places = max_t, tuple(features)
        self.momentum = self.usual_momentum = momentum
        for place, n in features.items():
            self.register_buffer(f"mean_{place}", torch.empty(max_t, n, device=device, dtype=dtype))
            self.register_buffer(f"var_{place}", torch.empty(max_t, n, device=device, dtype=dtype))
        self.register_buffer("batches", torch.empty(max_t, dtype=torch.int64, device=device))
        self.reset_running_stats()

    def start_recalibration(self) -> None:
        """Forget all batches; from now on statistics are the plain mean over batches."""
        self.reset_running_stats()
        self.usual_momentum, self.momentum = self.momentum, None

    def finish_recalibration(self) -> None:
        """Go back to running averages."""
        self.momentum = self.usual_momentum

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        for place in self.places:
            self.get_buffer(f"mean_{place}").zero_()
            self.get_buffer(f"var_{place}").fill_(1)
        self.get_buffer("batches").zero_()

    @torch.no_grad()
    def update(self, stats: Stats, cases_T: Tensor, start: int = 0) -> None:
        """Add the statistics of a batch, except at steps from `max_t` on and at those with fewer than 2 real cases.

        Args:
            cases_T: real cases of each step.
            start: number of the first of these steps.
        """
        batches_M = self.get_buffer("batches")[start:]
        known = (cases_T[: len(batches_M)] > 1).nonzero().flatten().to(batches_M.device)
        batches_M[known] += 1
        counts_K1 = cases_T.to(batches_M.device)[known, None]
        for place in self.places:
            mean_TF, var_TF = stats.at(place)
            share_K1 = batches_M[known, None].to(mean_TF.dtype).reciprocal() if self.momentum is None else self.momentum
            cases_K1 = counts_K1.to(mean_TF.dtype)
            unbiased_KF = var_TF[known] * (cases_K1 / (cases_K1 - 1))
            for name, new_KF in ((f"mean_{place}", mean_TF[known]), (f"var_{place}", unbiased_KF)):
                buffer_MF = self.get_buffer(name)[start:]
                buffer_MF[known] += share_K1 * (new_KF - buffer_MF[known])

    def population(self, steps: int, start: int = 0) -> Stats:
        """Statistics of `steps` steps from `start` on; steps after the last one reached in training use the last one's."""
        last = (self.get_buffer("batches").count_nonzero() - 1).clamp(min=0)
        index_T = torch.arange(start, start + steps, device=last.device).minimum(last)
        moments = {f"{m}_{p}": self.get_buffer(f"{m}_{p}")[index_T] for p in self.places for m in ("mean", "var")}
        return Stats._make(moments.get(name) for name in Stats._fields)
