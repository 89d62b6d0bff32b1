"""Tables with curves given by hand, in the form of `tables.load`."""

from __future__ import annotations

import pandas as pd

from lnexp.evidence.claims import Claim
from lnexp.evidence.claims.measured import Effects, Runs, effects
from lnexp.evidence.effects import Measure


def table(values: dict[tuple[str, int], list[list[float]]]) -> pd.DataFrame:
    """(norm, batch size) -> one curve per seed, as test error and training NLL, evaluated every 10 updates."""
    rows = []
    for (norm, batch), curves in values.items():
        for seed, curve in enumerate(curves):
            run = {"id": f"{norm}-{batch}-{seed}", "seed": seed, "norm.name": norm, "batch_size": batch}
            run |= {"task.name": "mnist", "status": "finished", "scale": "desk", "data": "made up", "machine": "one"}
            for k, value in enumerate(curve):
                at = {"step": 10 * (k + 1), "seconds": 2.0 * (k + 1), "value": value}
                rows += [{**run, **at, "metric": metric} for metric in ("train/nll", "test/error")]
    return pd.DataFrame(rows)


def claim(measure: Measure, *arms: dict) -> Claim:
    return Claim("x", "nowhere", "made up", "fig6", measure, arms, (0, 1, 2, 3, 4), 0.1)


def measured(claim: Claim, frame: pd.DataFrame) -> Effects:
    return effects(claim, Runs(frame), range(100))
