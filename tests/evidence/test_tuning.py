"""Expected best of k trials and performance profiles against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lnexp.evidence.claims import arm
from lnexp.evidence.tuning import ExpectedBest, expected_best, performance_profile, profile_interval, ratios
from tests.evidence.curves import claim, measured, table


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_expected_best_is_the_mean_over_all_subsets(k: int) -> None:
    values = np.random.default_rng(k).normal(size=6).tolist()
    assert expected_best(values, k) == pytest.approx(np.mean([min(subset) for subset in combinations(values, k)]))


def test_more_trials_than_values_are_refused() -> None:
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k={k}: must be 1 to the number of trials, 2"):
            expected_best([1.0, 2.0], k)
    with pytest.raises(ValueError, match="ExpectedBest does not take 4 arms"):
        claim(ExpectedBest("test/error", "lower", trials=3), *[arm("ln", 4)] * 4)
    with pytest.raises(ValueError, match="ExpectedBest does not take 3 arms"):
        claim(ExpectedBest("test/error", "lower"), *[arm("ln", 4)] * 3)


ARMS = (arm("ln", 4), arm("ln", 8), arm("bn", 4), arm("bn", 8))
FRAME = {("ln", 4): [[4.0, 3.0]], ("ln", 8): [[2.0, 1.0]], ("bn", 4): [[3.0, 2.0]], ("bn", 8): [[9.0, 6.0]]}


def test_an_arm_of_several_settings_is_compared_by_its_best_and_by_its_mean() -> None:
    def effect(metric_better: str, **options) -> float:
        return measured(claim(ExpectedBest("test/error", metric_better, **options), *ARMS), table(FRAME)).of_seed[0]

    assert effect("lower", trials=2) == pytest.approx(2.0 - 1.0)
    assert effect("lower", trials=1) == pytest.approx(4.0 - 2.0)
    assert effect("higher", trials=2) == pytest.approx(3.0 - 6.0)
    assert effect("lower", trials=2, over="run") == pytest.approx(2.5 - 1.5)


def test_a_setting_that_diverged_is_the_worst_one() -> None:
    frame = table(FRAME)
    frame.loc[(frame["norm.name"] == "ln") & (frame["batch_size"] == 8), "status"] = "diverged"
    tuned = measured(claim(ExpectedBest("test/error", "lower", trials=2), *ARMS), frame).of_seed[0]
    assert tuned == pytest.approx(2.0 - 3.0)
    blind = measured(claim(ExpectedBest("test/error", "lower", trials=1, over="run"), *ARMS), frame).of_seed[0]
    assert blind == pytest.approx((2.5 + 7.5) / 2 - (3.5 + 9.0) / 2)  # 9: the worst value of any run


def test_a_profile_counts_problems_and_seeds_within_a_factor_of_the_best() -> None:
    random = np.random.default_rng(0)
    value_PSA = random.uniform(1, 3, (2, 4, 3))
    value_PSA[1, :, 2] = np.nan  # the third arm does not run on the second problem
    better, tau_N = ("lower", "higher"), np.array([1.0, 1.3, 2.0, 9.0])
    expected = np.zeros((4, 3))
    best = value_PSA[0].mean(0).min(), np.nanmax(value_PSA[1, :, :2].mean(0))
    for n, tau in enumerate(tau_N):
        for a in range(3):
            hits = [value_PSA[0, s, a] / best[0] <= tau for s in range(4)]
            hits += [best[1] / value_PSA[1, s, a] <= tau for s in range(4)] if a < 2 else [False] * 4
            expected[n, a] = sum(hits) / 8
    found = performance_profile(ratios(value_PSA, better), tau_N)
    np.testing.assert_allclose(found, expected)
    assert found[-1].tolist() == [1.0, 1.0, 0.5]


def test_the_interval_of_a_profile_holds_it_and_vanishes_without_spread() -> None:
    value_PSA = np.random.default_rng(1).uniform(1, 2, (3, 5, 2))
    tau_N = np.array([1.1, 1.4])
    low, high = profile_interval(value_PSA, ["lower"] * 3, tau_N, resamples=200)
    profile = performance_profile(ratios(value_PSA, ["lower"] * 3), tau_N)
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert (high > low).any()
    same_PSA = np.repeat(value_PSA[:, :1], 5, axis=1)
    low, high = profile_interval(same_PSA, ["lower"] * 3, tau_N, resamples=50)
    np.testing.assert_array_equal(low, high)
