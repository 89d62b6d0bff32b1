"""What tuning gives: the expected best of k trials, and performance profiles over several problems.

Shapes: n trials, P problems, S seeds, A arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np

from lnexp.evidence.effects import Measure, Series


def expected_best(values: Sequence[float] | np.ndarray, k: int) -> float:
    """The expected least of k of n values, drawn without replacement: the mean over all subsets of k.

    With values in ascending order, the i-th (from 0) is the least of C(n - 1 - i, k - 1) of the C(n, k) subsets
    (after Dodge et al. 2019, whose trials are drawn with replacement).

    Raises:
        ValueError: k is not 1 to n.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not 1 <= k <= n:
        raise ValueError(f"k={k}: must be 1 to the number of trials, {n}")
    return float(sum(value * comb(n - 1 - i, k - 1) for i, value in enumerate(ordered)) / comb(n, k))


@dataclass(frozen=True)
class ExpectedBest(Measure):
    """The first half of the arms has a better expected best of k trials than the second half.

    Each half is one method at several settings, such as learning rates; a trial is one of them, drawn without replacement.
    With k the number of settings both are tuned on the whole grid; with k = 1 the setting is drawn blindly. Within one seed both
    methods choose from equally many values, so that neither gains from the choice alone, unless its values are noisier.

    Attributes:
        trials: k.
        over: a run's value: "end", as in `Better`; "run", its mean over all evaluations, which is lower for a faster run. A run
            that diverged has its last value, the worst.
    """

    trials: int = 1
    over: Literal["end", "run"] = "end"

    def contrast(self, runs: Sequence[Series]) -> float:
        values = [run.late() if self.over == "end" or run.diverged else float(run.value.mean()) for run in runs]
        half = len(values) // 2
        return expected_best(values[half:], self.trials) - expected_best(values[:half], self.trials)

    def takes(self, arms: int) -> bool:
        return arms >= 2 and arms % 2 == 0 and 1 <= self.trials <= arms // 2

    @property
    def meaning(self) -> str:
        what = f"{self.metric} at the end" if self.over == "end" else f"mean {self.metric} over the run"
        return f"lead in {what}, expected best of {self.trials} setting{'s' * (self.trials != 1)}"


def ratios(value_PSA: np.ndarray, better: Sequence[str]) -> np.ndarray:
    """How many times worse than the best arm of its problem each value is: 1 for the best arm's mean over seeds, [P, S, A].

    Args:
        value_PSA: positive values; NaN where an arm has none; it is then not the best one.
        better: "lower" or "higher", of each problem. Where higher is better, the ratio is the best arm's value over the value.
    """
    ratio_PSA = np.full(value_PSA.shape, np.nan)
    for p, direction in enumerate(better):
        mean_A = value_PSA[p].mean(axis=0)
        lower = direction == "lower"
        best = np.nanmin(mean_A) if lower else np.nanmax(mean_A)
        ratio_PSA[p] = value_PSA[p] / best if lower else best / value_PSA[p]
    return ratio_PSA


def performance_profile(ratio_PSA: np.ndarray, tau_N: np.ndarray) -> np.ndarray:
    """The fraction of problems and seeds, each problem of equal weight, at which an arm's ratio is at most tau: [N, A].

    After Dolan and More (2002). A missing value (NaN) counts as worse than any tau.
    """
    return np.array([(ratio_PSA <= tau).mean(axis=(0, 1)) for tau in tau_N])


def profile_interval(
    value_PSA: np.ndarray, better: Sequence[str], tau_N: np.ndarray, level: float = 0.95, resamples: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap interval of `performance_profile` at each tau, [N, A] each: seeds are drawn anew within each problem.

    The arms of a problem keep their pairing by seed. Problems are not resampled: the interval is of these problems.
    """
    random = np.random.default_rng(0)
    P, S, _ = value_PSA.shape
    drawn = []
    for _ in range(resamples):
        seed_PS = random.integers(0, S, (P, S))
        again_PSA = np.take_along_axis(value_PSA, seed_PS[..., None], axis=1)
        drawn.append(performance_profile(ratios(again_PSA, better), tau_N))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
