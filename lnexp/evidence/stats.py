"""The statistics behind a verdict, on paired effects of runs that share a seed.

Rule for a claim, on effects d_1..d_n of its deciding seeds, positive where the claim holds, with a margin m:

- supported: one-sided t test p < ALPHA, Holm's adjusted p < FAMILY over the claims of its list, exact sign-flip p <= ALPHA_FLIP;
- contradicted: the same for -d;
- equivalent: neither, and two one-sided t tests at ALPHA_EQUIVALENCE show -m < mean < m;
- inconclusive: none of these.

Where effects are bounds (a curve had passed a level at its first evaluation), only a verdict that the bound cannot undo is given.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import nctdtr, ndtr, stdtr, stdtrit

ALPHA = 0.01  # of each one-sided t test
FAMILY = 0.05  # over all claims of a list, for each direction
ALPHA_FLIP = 0.05  # of the exact sign-flip test (at five seeds: all must agree; it cannot go below 1/32)
ALPHA_EQUIVALENCE = 0.05  # of each of the two one-sided tests
POWER = 0.8
MIN_SEEDS = 5
RULE = {"alpha": ALPHA, "family": FAMILY, "flip": ALPHA_FLIP, "equivalence": ALPHA_EQUIVALENCE}
VERDICTS = ("supported", "contradicted", "equivalent", "inconclusive", "not run")


@dataclass(frozen=True)
class Paired:
    """Tests of n paired effects; NaN where n < 2.

    Attributes:
        n, mean, sd: number, mean and standard deviation of the effects.
        low, high: the t interval of the mean at the rule's own level, 1 - 2 ALPHA.
        p_t, p_flip: one-sided p of the paired t test and of the exact sign-flip test of "the mean is 0 or less".
        p_t_against, p_flip_against: the same for -d.
        p_equal: the larger p of the two one-sided tests of "the mean lies outside the margin".
        power: of the t test at n, for a true effect of the size of the margin and the standard deviation seen.
        n_needed: the least n with a power of POWER for that effect.
    """

    n: int
    mean: float
    sd: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p_t: float = np.nan
    p_flip: float = np.nan
    p_t_against: float = np.nan
    p_flip_against: float = np.nan
    p_equal: float = np.nan
    power: float = np.nan
    n_needed: int = 0

    def interval(self, alpha: float) -> tuple[float, float]:
        """The t interval of the mean at level 1 - 2 alpha; (nan, nan) where n < 2."""
        half = stdtrit(self.n - 1, 1 - alpha) * self.sd / np.sqrt(self.n) if self.n > 1 else np.nan
        return self.mean - half, self.mean + half


def paired(effects: np.ndarray, margin: float) -> Paired:
    """The tests on effects d_n, one per seed."""
    d = np.asarray(effects, float)
    if not np.isfinite(d).all():
        raise ValueError(f"effects must be finite, got {d}")
    if len(d) < 2:
        return Paired(len(d), float(d.mean()) if len(d) else np.nan)
    sd = float(np.std(d, ddof=1)) if np.ptp(d) > 1e-12 * np.abs(d).max() else 0.0
    return Paired(
        len(d),
        float(d.mean()),
        sd,
        *interval(d, 1 - 2 * ALPHA),
        _one_sided_t(d.mean(), sd, len(d)),
        _sign_flip(d),
        _one_sided_t(-d.mean(), sd, len(d)),
        _sign_flip(-d),
        max(_one_sided_t(margin - d.mean(), sd, len(d)), _one_sided_t(margin + d.mean(), sd, len(d))),
        power(margin, sd, len(d)),
        seeds_needed(margin, sd),
    )


def verdict(outcome: Paired, holm_for: float, holm_against: float, bound: int = 0) -> str:
    """The verdict of the rule above, from the tests and from Holm's adjusted p values of the two directions.

    Args:
        bound: 1 where true effects may be larger, -1 where they may be smaller (see `Measure.bound`): then only the verdict that
            this cannot undo is given.
    """
    if outcome.n < MIN_SEEDS:
        return "not run"
    if bound >= 0 and outcome.p_t < ALPHA and holm_for < FAMILY and outcome.p_flip <= ALPHA_FLIP:
        return "supported"
    if bound <= 0 and outcome.p_t_against < ALPHA and holm_against < FAMILY and outcome.p_flip_against <= ALPHA_FLIP:
        return "contradicted"
    if bound or (outcome.sd == 0 and outcome.mean == 0):
        return "inconclusive"  # a bound, or no run shows anything: neither a difference nor how large it could be
    return "equivalent" if outcome.p_equal < ALPHA_EQUIVALENCE else "inconclusive"


def holm(p_n: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values: with p sorted ascending, max over j <= k of (n - j) p_j (j from 0), at most 1. NaN stays NaN."""
    p_n = np.asarray(p_n, float)
    known = np.flatnonzero(~np.isnan(p_n))
    order = known[np.argsort(p_n[known], kind="stable")]
    adjusted = np.full(len(p_n), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(order) - np.arange(len(order))) * p_n[order]))
    return adjusted


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The t interval of the mean of values_n; (nan, nan) for fewer than two."""
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    half = stdtrit(n - 1, (1 + level) / 2) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def power(effect: float, sd: float, n: int) -> float:
    """P(the one-sided t test at ALPHA rejects) for a true mean `effect` and standard deviation `sd`, at n seeds."""
    if sd == 0:
        return 1.0
    shift, critical = effect / sd * np.sqrt(n), stdtrit(n - 1, 1 - ALPHA)
    if n > 200 or shift > 30:  # normal to three digits, and beyond what the non-central t can compute
        return float(ndtr(shift - critical))
    return float(1 - nctdtr(n - 1, shift, critical))


def seeds_needed(effect: float, sd: float, most: int = 10_000) -> int:
    """The least n of at least MIN_SEEDS with a power of POWER; `most` where even that is too few."""
    low, high = MIN_SEEDS, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, middle) >= POWER else (middle + 1, high)
    return low


def _one_sided_t(mean: float, sd: float, n: int) -> float:
    """p of the t test of "the true mean is 0 or less"; without any spread, 0 for a positive mean and 1 else."""
    if sd == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(n - 1, -mean / sd * np.sqrt(n)))


def _sign_flip(d: np.ndarray) -> float:
    """Fraction of the 2^n sign patterns whose sum is at least the observed one; 2^16 random ones beyond n = 16."""
    sums = _signs(len(d)) @ d
    return float(np.mean(sums >= d.sum() - 1e-12 * np.abs(d).sum()))


@cache
def _signs(n: int) -> np.ndarray:
    """The sign patterns, [pattern, n]; the first one is all ones."""
    if n <= 16:
        return np.array(list(itertools.product((1, -1), repeat=n)))
    return np.vstack([np.ones(n, int), np.random.default_rng(0).choice((1, -1), (2**16 - 1, n))])
