"""Known answers, and what the tests promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lnexp.evidence.stats import ALPHA, holm, interval, paired, power, seeds_needed, verdict


def word(d: np.ndarray, margin: float = 0.1) -> str:
    """The verdict of a claim that is alone in its list."""
    outcome = paired(d, margin)
    return verdict(outcome, outcome.p_t, outcome.p_t_against)


def test_known_answers() -> None:
    d = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    outcome = paired(d, 2.0)
    assert (outcome.n, outcome.mean) == (5, 3)
    assert outcome.p_t == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    assert outcome.p_t_against == pytest.approx(1 - outcome.p_t)
    assert outcome.p_flip == pytest.approx(1 / 32)  # all five agree
    assert outcome.p_flip_against == 1
    half = stats.t.ppf(1 - ALPHA, 4) * np.std(d, ddof=1) / np.sqrt(5)
    assert (outcome.low, outcome.high) == pytest.approx((3 - half, 3 + half))
    assert outcome.p_equal == pytest.approx(stats.ttest_1samp(d, 2.0, alternative="less").pvalue)
    assert word(d) == "supported"
    assert word(-d) == "contradicted"
    assert (outcome.low > 0) == (outcome.p_t < ALPHA)  # the interval shown is that of the rule


def test_the_sign_flip_test_by_enumeration() -> None:
    d = np.array([3.0, -1.0, 2.0])
    # of the eight sign patterns of (3, 1, 2), the sums that are at least 4: 6 and 4
    assert paired(d, 1.0).p_flip == pytest.approx(2 / 8)


def test_few_or_disagreeing_seeds_decide_nothing() -> None:
    assert word(np.array([])) == "not run"
    assert word(np.array([1.0, 1.1, 0.9, 1.0])) == "not run"
    assert word(np.array([1.0, 1.1, 0.9, 1.0, -0.1])) == "inconclusive"
    assert word(np.zeros(5)) == "inconclusive"
    assert word(np.full(5, 0.2)) == "supported"  # no spread at all: every seed agrees exactly


def test_equivalence_needs_the_interval_within_the_margin() -> None:
    d = np.array([0.01, -0.02, 0.0, 0.02, -0.015])
    assert word(d, 0.1) == "equivalent"
    assert word(d, 0.01) == "inconclusive"


def test_holm_known_answers() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan])
    outcome = paired(np.array([1.0, 1.4, 0.7, 1.2, 0.9]), 0.1)
    assert verdict(outcome, 0.06, 1.0) == "inconclusive"
    assert verdict(outcome, 0.04, 1.0) == "supported"


def test_power_is_that_of_the_non_central_t() -> None:
    assert power(2.0, 1.0, 5) == pytest.approx(stats.nct.sf(stats.t.ppf(1 - ALPHA, 4), 4, 2 * np.sqrt(5)))
    n = seeds_needed(1.0, 1.0)
    assert power(1.0, 1.0, n) >= 0.8 > power(1.0, 1.0, n - 1)
    assert power(1.0, 10.0, 200) == pytest.approx(power(1.0, 10.0, 201), abs=5e-3)  # across to the normal approximation
    assert (power(0.1, 0.0, 5), seeds_needed(0.1, 0.0)) == (1.0, 5)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired(np.array([1.0, np.inf]), 0.1)


def test_false_verdicts_and_coverage() -> None:
    random = np.random.default_rng(0)
    words = [word(random.normal(0, 1, 5)) for _ in range(2000)]
    assert words.count("supported") < 0.015 * 2000  # promised: 1 % each way
    assert words.count("contradicted") < 0.015 * 2000
    at_margin = [word(random.normal(0.5, 0.2, 5), 0.5) for _ in range(2000)]
    assert at_margin.count("equivalent") < 0.065 * 2000  # promised: 5 %
    covered = [low <= 0 <= high for low, high in (interval(random.normal(0, 1, 5)) for _ in range(2000))]
    assert 0.93 < np.mean(covered) < 0.97
    assert [word(random.normal(3, 1, 5)) for _ in range(500)].count("supported") > 0.9 * 500


def test_a_bound_gives_only_the_verdict_that_it_cannot_undo() -> None:
    clear = np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    bounds = (-1, 0, 1)
    assert [verdict(paired(clear, 0.5), 0, 1, bound) for bound in bounds] == ["inconclusive", "supported", "supported"]
    assert [verdict(paired(-clear, 0.5), 1, 0, bound) for bound in bounds] == ["contradicted", "contradicted", "inconclusive"]
    small = np.array([0.01, -0.02, 0.015, -0.01, 0.005])
    assert [verdict(paired(small, 0.5), 1, 1, bound) for bound in bounds] == ["inconclusive", "equivalent", "inconclusive"]
