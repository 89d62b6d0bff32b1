"""Known answers, and what the tests promise: false verdicts are rare, intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lnexp.evidence.stats import interval, paired


def test_known_answers() -> None:
    d = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    outcome = paired(d)
    assert outcome.n == 5
    assert outcome.mean == 3
    assert outcome.p_t == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    assert outcome.p_flip == pytest.approx(1 / 32)  # all five agree
    half = 2.7764451 * np.std(d, ddof=1) / np.sqrt(5)
    assert (outcome.low, outcome.high) == pytest.approx((3 - half, 3 + half))
    assert outcome.verdict == "supported"
    assert paired(-d).verdict == "contradicted"


def test_the_sign_flip_test_by_enumeration() -> None:
    d = np.array([3.0, -1.0, 2.0])
    # of the eight sign patterns of (3, 1, 2), the sums that are at least 4: 6 and 4
    assert paired(d).p_flip == pytest.approx(2 / 8)


def test_few_or_disagreeing_seeds_decide_nothing() -> None:
    assert paired(np.array([])).verdict == "not run"
    assert paired(np.array([1.0, 1.1, 0.9, 1.0])).verdict == "not run"
    assert paired(np.array([1.0, 1.1, 0.9, 1.0, -0.1])).verdict == "inconclusive"
    assert paired(np.zeros(5)).verdict == "inconclusive"
    assert paired(np.full(5, 0.2)).verdict == "supported"  # no spread at all: every seed agrees exactly


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired(np.array([1.0, np.inf]))


def test_false_verdicts_and_coverage() -> None:
    random = np.random.default_rng(0)
    verdicts = [paired(random.normal(0, 1, 5)).verdict for _ in range(2000)]
    assert verdicts.count("supported") < 0.02 * 2000  # promised: 1 % each way
    assert verdicts.count("contradicted") < 0.02 * 2000
    covered = [low <= 0 <= high for low, high in (interval(random.normal(0, 1, 5)) for _ in range(2000))]
    assert 0.93 < np.mean(covered) < 0.97
    strong = [paired(random.normal(3, 1, 5)).verdict for _ in range(500)]
    assert strong.count("supported") > 0.9 * 500
