"""The few statistics that the verdicts rest on, on paired differences of runs that share a seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA_T = 0.01  # one-sided, of the paired t test
ALPHA_FLIP = 0.05  # one-sided, of the exact sign-flip test (at five seeds: all must agree)
MIN_SEEDS = 5  # the sign-flip test cannot go below 1/8 at three


@dataclass(frozen=True)
class Paired:
    """What n paired differences say about their mean.

    Attributes:
        n, mean: how many there are, and their mean.
        low, high: 95 % t interval of the mean.
        p_t: one-sided p of the paired t test against "the mean is 0 or less".
        p_flip: one-sided p of the exact sign-flip test against the same.
        verdict: supported | contradicted | inconclusive | not run, where positive differences are the claim's way.
    """

    n: int
    mean: float
    low: float
    high: float
    p_t: float
    p_flip: float
    verdict: str


def paired(differences: np.ndarray) -> Paired:
    """The tests on differences d_n, one for each seed."""
    d = np.asarray(differences, float)
    if not np.isfinite(d).all():
        raise ValueError(f"differences must be finite, got {d}")
    if len(d) < 2:
        mean = float(d.mean()) if len(d) else np.nan
        return Paired(len(d), mean, np.nan, np.nan, np.nan, np.nan, "not run")

    def passes(d: np.ndarray) -> bool:
        return _one_sided_t(d) < ALPHA_T and _sign_flip(d) <= ALPHA_FLIP

    verdict = "supported" if passes(d) else "contradicted" if passes(-d) else "inconclusive"
    verdict = verdict if len(d) >= MIN_SEEDS else "not run"
    return Paired(len(d), float(d.mean()), *interval(d), _one_sided_t(d), _sign_flip(d), verdict)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The t interval of the mean of values_n; (nan, nan) for fewer than two."""
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _one_sided_t(d: np.ndarray) -> float:
    if np.std(d) == 0:  # no spread: the test has nothing to say unless the difference is real and exact
        return 0.0 if d[0] > 0 else 1.0
    return float(stats.ttest_1samp(d, 0, alternative="greater").pvalue)


def _sign_flip(d: np.ndarray) -> float:
    """Share of the 2^n sign patterns whose mean is at least the observed one; drawn at random beyond n = 16."""
    n = len(d)
    if n <= 16:
        signs = np.array(list(itertools.product((1, -1), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (2**16, n))
        signs[0] = 1
    means = signs @ np.abs(d)
    return float(np.mean(means >= d.sum() - 1e-12 * np.abs(d).sum()))
