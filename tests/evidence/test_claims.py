"""Claims: that they name what exists, and from rows to effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lnexp import config
from lnexp.evidence.catalog import experiments, task_of
from lnexp.evidence.claims import CLAIMS, arm, contrasts
from lnexp.evidence.effects import Better, BetterAtBest, Steadier
from lnexp.tasks import TASKS
from tests.evidence.curves import claim, table


def test_evaluations_before_any_update_do_not_count() -> None:
    c = claim(BetterAtBest("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[0.1, 0.5, 0.4]], ("bn", 4): [[0.2, 0.5, 0.3]]}).assign(step=lambda f: f["step"] - 10)
    np.testing.assert_allclose(contrasts(c, frame), [-0.1])


def test_two_runs_of_one_seed_in_an_arm_are_refused() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[1.0]], ("bn", 4): [[2.0]]})
    twice = pd.concat([frame, frame.assign(id="other")])
    with pytest.raises(ValueError, match="several runs of one seed"):
        contrasts(c, twice)


def test_the_number_of_arms_must_fit_the_measure() -> None:
    with pytest.raises(ValueError, match="claim x: Better does not take 1 arms"):
        claim(Better("test/error", "lower"), arm("ln", 4))
    with pytest.raises(ValueError, match="Steadier does not take 5 arms"):
        claim(Steadier("test/error", "lower"), *[arm("ln", 4)] * 5)


def test_claims_name_presets_and_runs_that_exist() -> None:
    """Each arm is one configuration of the claim's experiment. Where the task declares the curve, it says the same direction."""
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    assert {c.experiment for c in CLAIMS} <= set(experiments())
    grids = {experiment: config.grid(experiment, "seed=0") for experiment in {c.experiment for c in CLAIMS}}
    for c in CLAIMS:
        declared = {curve.metric: curve.better for curve in TASKS[task_of(c.experiment)].curves}
        assert declared.get(c.measure.metric, c.measure.better) == c.measure.better, c.id
        for of_arm in c.arms:
            runs = grids[c.experiment]
            matching = [cfg for cfg in runs if all(OmegaConf.select(cfg, key) == value for key, value in of_arm.items())]
            assert len(matching) == 1, f"claim {c.id}: {len(matching)} runs of {c.experiment} match {of_arm}"
