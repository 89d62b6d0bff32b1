"""Effects of curves given by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lnexp.evidence.claims import Claim, arm
from lnexp.evidence.effects import Ahead, Better, Cheaper, Faster, LosesLess, Reaches
from tests.evidence.curves import claim, measured, table

LN_NONE = (arm("ln", 128), arm("none", 128))
FASTER = claim(Faster("train/nll", "lower"), *LN_NONE)


def share(claim: Claim, frame: pd.DataFrame) -> float:
    return float(claim.measure.shown(measured(claim, frame).of_seed[0]))


def falling(times: float, noise: float = 0.0, points: int = 40) -> list[float]:
    """exp(-updates / (50 times)), so that every level is passed in proportion to `times`."""
    t = 10 * np.arange(1, points + 1)
    return list(np.exp(-t / (50 * times)) + noise * np.random.default_rng(0).normal(size=points))


def test_better_is_the_difference_of_late_means() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[9.0] * 8 + [1.0, 2.0]], ("bn", 4): [[9.0] * 8 + [0.5, 4.5]]})
    assert measured(c, frame).of_seed[0] == pytest.approx(2.5 - 1.5)
    higher = claim(Better("test/error", "higher"), arm("ln", 4), arm("bn", 4))
    assert measured(higher, frame).of_seed[0] == pytest.approx(1.5 - 2.5)


def test_faster_is_the_mean_share_of_time_over_levels() -> None:
    frame = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    assert share(FASTER, frame) == pytest.approx(0.5, rel=0.04)
    swapped = table({("ln", 128): [falling(2.0)], ("none", 128): [falling(1.0)]})
    assert share(FASTER, swapped) == pytest.approx(1 / share(FASTER, frame))
    log = claim(Faster("train/nll", "lower", log=True), *LN_NONE)
    assert share(log, frame) == pytest.approx(0.5, rel=0.02)
    noisy = table({("ln", 128): [falling(1.0, 0.02)], ("none", 128): [falling(2.0)]})
    assert share(FASTER, noisy) == pytest.approx(0.5, rel=0.15)


def test_faster_by_a_stated_share_is_positive_beyond_it() -> None:
    frame = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    for stated, sign in ((0.6, 1), (0.4, -1)):
        c = claim(Faster("train/nll", "lower", share=stated), *LN_NONE)
        assert np.sign(measured(c, frame).of_seed[0]) == sign
        assert share(c, frame) == pytest.approx(share(FASTER, frame))


def test_a_level_passed_at_the_first_evaluation_is_a_bound() -> None:
    quick = table({("ln", 128): [[0.3, 0.2, 0.1]], ("none", 128): [[0.9, 0.7, 0.5, 0.3, 0.1]]})
    found = measured(FASTER, quick)
    assert found.bound == 1
    assert found.of_seed[0] > 0
    beyond = table({("ln", 128): [[0.3, 0.2, 0.1]], ("none", 128): [[0.9, 0.7, 0.5, 0.4]]})  # no level is passed by both
    assert measured(FASTER, beyond).bound == 1
    assert 10 / 40 < share(FASTER, beyond) < 1
    assert measured(FASTER, table({("ln", 128): [falling(1.0)], ("none", 128): [falling(1.1)]})).bound == 0


def test_flat_curves_are_equally_fast() -> None:
    random = np.random.default_rng(0)
    flat = [list(1 + scale * random.normal(size=20)) for scale in (0.1, 0.01)]
    assert measured(FASTER, table({("ln", 128): [flat[0]], ("none", 128): [flat[1]]})).of_seed[0] == 0


def test_claims_on_time_need_processor_time() -> None:
    c = claim(Faster("train/nll", "lower", axis="cpu_seconds"), *LN_NONE)
    frame = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    assert measured(c, frame).of_seed.empty
    assert measured(c, frame).missing == "processor time was not recorded"
    timed = frame.assign(cpu_seconds=frame["step"] * np.where(frame["norm.name"] == "ln", 3.0, 1.0))
    assert share(c, timed) == pytest.approx(3 * share(FASTER, frame))
    assert share(claim(Cheaper("train/nll", "lower"), *LN_NONE), timed) == pytest.approx(3)
    elsewhere = timed.assign(machine=timed["norm.name"])
    assert measured(c, elsewhere).missing == "its runs were made on different machines, thread counts or versions of torch"
    assert measured(c, elsewhere).of_seed.empty
    assert share(FASTER, elsewhere) == share(FASTER, frame)


def test_runs_on_different_data_are_not_compared() -> None:
    frame = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    other = frame.assign(data_digest=frame["norm.name"])
    assert measured(FASTER, other).missing == "its runs were made from different data"
    assert measured(FASTER, other).of_seed.empty
    assert len(measured(FASTER, frame.assign(data_digest="abc")).of_seed) == 1


def test_runs_with_uncommitted_changes_decide_nothing() -> None:
    frame = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    changed = frame.assign(dirty=np.where(frame["norm.name"] == "ln", "True; False", "False"))
    assert measured(FASTER, changed).missing == "its runs were made with uncommitted changes"
    assert measured(FASTER, changed).of_seed.empty
    assert len(measured(FASTER, frame.assign(dirty="False")).of_seed) == 1


def test_a_run_that_diverged_before_any_evaluation_loses() -> None:
    whole = table({("ln", 128): [falling(1.0)], ("none", 128): [falling(2.0)]})
    lost = whole["norm.name"] == "ln"
    frame = pd.concat([whole[~lost], whole[lost].head(1).assign(status="diverged", metric="train/loss")])
    for measure in (Better("train/nll", "lower"), Faster("train/nll", "lower"), Ahead("train/nll", "lower")):
        assert measured(claim(measure, *LN_NONE), frame).of_seed[0] < 0
        assert measured(claim(measure, *LN_NONE[::-1]), frame).of_seed[0] > 0


def test_ahead_is_the_mean_lead_over_the_run() -> None:
    c = claim(Ahead("train/nll", "lower"), *LN_NONE)
    frame = table({("ln", 128): [[4, 2, 1]], ("none", 128): [[4, 3, 4]]})
    assert measured(c, frame).of_seed[0] == pytest.approx((0 + 1 + 3) / 3)
    rare = frame[(frame["norm.name"] == "none") | (frame["step"] != 20)]  # evaluated less often: interpolated
    assert measured(c, rare).of_seed[0] == pytest.approx((0 + 0.5 + 3) / 3)
    early = claim(Ahead("train/nll", "lower", until=20), *LN_NONE)
    assert measured(early, frame).of_seed[0] == pytest.approx((0 + 1) / 2)


def test_loses_less_compares_the_mean_loss_from_the_last_arm_of_each_half() -> None:
    c = claim(LosesLess("test/error", "lower"), arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128))
    frame = table({("ln", 4): [[2.0]], ("ln", 128): [[1.5]], ("bn", 4): [[4.0]], ("bn", 128): [[1.0]]})
    assert measured(c, frame).of_seed[0] == pytest.approx(3.0 - 0.5)
    more = claim(LosesLess("test/error", "lower"), *(arm(norm, b) for norm in ("ln", "bn") for b in (2, 4, 128)))
    frame = pd.concat([frame, table({("ln", 2): [[5.0]], ("bn", 2): [[1.0]]})])
    assert measured(more, frame).of_seed[0] == pytest.approx((0 + 3) / 2 - (3.5 + 0.5) / 2)


def test_reaches_compares_one_arm_with_a_number() -> None:
    frame = table({("ln", 4): [[0.4]]})
    assert measured(claim(Reaches("test/error", "lower", value=0.5), arm("ln", 4)), frame).of_seed[0] == pytest.approx(0.1)
    assert measured(claim(Reaches("test/error", "higher", value=0.5), arm("ln", 4)), frame).of_seed[0] == pytest.approx(-0.1)


def test_a_run_that_diverged_counts_as_the_worst() -> None:
    frame = table({("ln", 128): [[3.0, 2.0, 1.0]], ("none", 128): [[2.5, 0.5]]})
    frame.loc[frame["norm.name"] == "none", "status"] = "diverged"
    assert measured(claim(Better("train/nll", "lower"), *LN_NONE), frame).of_seed[0] == pytest.approx(3.0 - 1.0)
    found = measured(claim(Ahead("train/nll", "lower"), *LN_NONE), frame)
    assert found.of_seed[0] == pytest.approx((-0.5 + 1.0 + 2.0) / 3)  # from its last evaluation on, the worst value of all, 3
    speed = measured(FASTER, frame)
    assert speed.of_seed[0] > 0
    assert speed.bound == 1
    both = frame.assign(status="diverged")
    assert measured(FASTER, both).of_seed[0] == 0


def test_the_half_with_a_run_that_diverged_loses_most() -> None:
    c = claim(LosesLess("test/error", "lower"), arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128))
    frame = table({("ln", 4): [[2.0]], ("ln", 128): [[1.5]], ("bn", 4): [[4.0]], ("bn", 128): [[1.0]]})
    for diverged in (4, 128):
        lost = (frame["norm.name"] == "ln") & (frame["batch_size"] == diverged)
        assert measured(c, frame.assign(status=np.where(lost, "diverged", "finished"))).of_seed[0] <= 0
