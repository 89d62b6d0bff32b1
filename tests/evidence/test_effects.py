"""Effects of curves given by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lnexp.evidence.claims import arm, contrasts, decide
from lnexp.evidence.effects import Ahead, Better, BetterAtBest, Faster, LosesLess, Series, Steadier
from tests.evidence.curves import claim, table


def test_lower() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    better = table({("ln", 4): [[3, 1.0 + 0.01 * s] for s in range(5)], ("bn", 4): [[3, 2.0] for _ in range(5)]})
    assert decide(c, better).verdict == "supported"
    assert decide(c, better).mean == pytest.approx(0.98)
    worse = table({("ln", 4): [[3, 2.0 + 0.01 * s] for s in range(5)], ("bn", 4): [[3, 1.0] for _ in range(5)]})
    assert decide(c, worse).verdict == "contradicted"
    few = table({("ln", 4): [[3, 1.0]] * 4, ("bn", 4): [[3, 2.0]] * 4})
    assert decide(c, few).verdict == "not run"
    assert decide(c, table({("ln", 4): [[3, 1.0]] * 5})).verdict == "not run"


def test_faster_is_the_share_of_updates_to_the_best_that_both_reach() -> None:
    c = claim(Faster("train/nll", "lower"), arm("ln", 128), arm("none", 128))
    frame = table({("ln", 128): [[4, 2, 1, 0.5]], ("none", 128): [[4, 3, 2, 1]]})
    assert np.exp(-contrasts(c, frame)[0]) == pytest.approx(30 / 40)
    between = table({("ln", 128): [[4, 0, 0, 0]], ("none", 128): [[4, 3, 2, 1]]})
    assert np.exp(-contrasts(c, between)[0]) == pytest.approx(17.5 / 40)  # crosses 1 three quarters of the way from 4 to 0
    slower = table({("ln", 128): [[4, 3, 2.5, 2]], ("none", 128): [[4, 2, 1, 0.5]]})
    assert np.exp(-contrasts(c, slower)[0]) == pytest.approx(40 / 20)
    seconds = claim(Faster("train/nll", "lower", "seconds"), arm("ln", 128), arm("none", 128))
    assert contrasts(seconds, frame)[0] == pytest.approx(contrasts(c, frame)[0])


def test_ahead_is_the_mean_lead_over_the_run() -> None:
    c = claim(Ahead("train/nll", "lower"), arm("ln", 128), arm("none", 128))
    frame = table({("ln", 128): [[4, 2, 1]], ("none", 128): [[4, 3, 4]]})
    assert contrasts(c, frame)[0] == pytest.approx((0 + 1 + 3) / 3)
    rare = frame[(frame["norm.name"] == "none") | (frame["step"] != 20)]  # evaluated less often: interpolated
    assert contrasts(c, rare)[0] == pytest.approx((0 + 0.5 + 3) / 3)
    short = table({("ln", 128): [[4, 2]], ("none", 128): [[4, 3, 4]]})
    short.loc[short["norm.name"] == "ln", "status"] = "diverged"  # from then on it has the worst value of all, 4
    assert contrasts(c, short)[0] == pytest.approx((0 - 1 + 0) / 3)


def test_loses_less() -> None:
    c = claim(LosesLess("test/error", "lower"), arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128))
    frame = table({("ln", 4): [[2.0]], ("ln", 128): [[1.5]], ("bn", 4): [[4.0]], ("bn", 128): [[1.0]]})
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 0.5)


def test_better_at_best_forgets_how_a_run_ends() -> None:
    c = claim(BetterAtBest("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[3.0, 1.0, 9.0]], ("bn", 4): [[3.0, 2.0, 2.0]]})
    assert contrasts(c, frame)[0] == pytest.approx(1.0)


def test_steadier_compares_the_spread_of_best_values_over_settings() -> None:
    sizes = (1, 2, 3, 4, 5)  # batch sizes stand for the settings
    c = claim(Steadier("test/error", "lower"), *(arm(norm, size) for norm in ("ln", "bn") for size in sizes))
    best = {"ln": (2.0, 2.5, 2.1, 2.2, 2.3), "bn": (1.0, 4.0, 2.0, 2.0, 2.0)}
    frame = table({(norm, size): [[9.0, value]] for norm in best for size, value in zip(sizes, best[norm], strict=True)})
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 0.5)


def test_a_diverged_run_counts_as_the_worst() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[3.0, 1.0]], ("bn", 4): [[3.0, 0.5]]})
    frame.loc[frame["norm.name"] == "bn", "status"] = "diverged"
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 1.0)


def test_series_of_one_point() -> None:
    series = Series(np.array([10]), np.array([1.0]), np.array([2.0]))
    assert series.late() == 2.0
    assert series.reaches(3.0, "updates") == 10
    assert series.reaches(1.0, "updates") == 10
