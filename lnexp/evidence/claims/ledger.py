"""From tables to verdicts: one effect per seed, then the paired tests of lnexp.evidence.stats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lnexp import paths
from lnexp.evidence.claims.base import Claim
from lnexp.evidence.effects import Series
from lnexp.evidence.stats import Paired, paired
from lnexp.evidence.tables import load


def contrasts(claim: Claim, frame: pd.DataFrame) -> pd.Series:
    """The claim's effect for every seed that has a run in each arm; positive where the claim holds.

    Args:
        claim: what to measure.
        frame: rows of `tables.load` for the claim's experiment. Evaluations before the first update do not count.

    Returns:
        Effects, indexed by seed.

    Raises:
        ValueError: several runs of one seed match one arm.
    """
    frame = frame[(frame["metric"] == claim.measure.metric) & (frame["step"] > 0)]
    if frame.empty:
        return pd.Series(dtype=float)
    sign = 1.0 if claim.measure.better == "lower" else -1.0
    frame = frame.assign(value=sign * frame["value"])
    of_arm = [frame[np.logical_and.reduce([frame[k] == v for k, v in arm.items()])] for arm in claim.arms]
    worst = max((float(rows["value"].max()) for rows in of_arm if len(rows)), default=np.nan)

    def series(rows: pd.DataFrame) -> Series:
        if rows["id"].nunique() != 1:
            raise ValueError(f"claim {claim.id}: several runs of one seed match one arm: {sorted(rows['id'].unique())}")
        rows = rows.sort_values("step")
        value = rows["value"].fillna(worst).to_numpy()
        if (rows["status"] == "diverged").any():
            value = np.append(value[:-1], worst)
        return Series(rows["step"].to_numpy(), rows["seconds"].to_numpy(), value)

    seeds = sorted(set.intersection(*(set(rows["seed"]) for rows in of_arm)))
    values = {s: claim.measure.contrast([series(rows[rows["seed"] == s]) for rows in of_arm]) for s in seeds}
    return pd.Series(values, dtype=float)


def decide(claim: Claim, frame: pd.DataFrame) -> Paired:
    """The verdict on a claim from the rows of `tables.load` for its experiment."""
    return paired(contrasts(claim, frame).to_numpy())


def ledger(results: str | Path = paths.RESULTS, scale: str | None = None) -> pd.DataFrame:
    """The verdict on every claim: one row per claim with effect, interval, number of seeds, p values, scale and data.

    Args:
        results: the folder that holds tables/.
        scale: None takes the strongest scale that the tables hold of an experiment.
    """
    from lnexp.evidence.claims import CLAIMS

    frames = {experiment: load(experiment, scale, results) for experiment in dict.fromkeys(c.experiment for c in CLAIMS)}
    return pd.DataFrame([_row(claim, frames[claim.experiment]) for claim in CLAIMS])


def _row(claim: Claim, frame: pd.DataFrame) -> dict[str, object]:
    outcome, shown = decide(claim, frame), claim.measure.shown
    low, high = sorted((shown(outcome.low), shown(outcome.high)))
    return {
        "id": claim.id,
        "where": claim.where,
        "says": claim.says,
        "verdict": outcome.verdict,
        "effect": f"{shown(outcome.mean):.3g}" if outcome.n else "",
        "interval": f"{low:.3g} to {high:.3g}" if outcome.n > 1 else "",
        "measure": claim.measure.meaning,
        "n": outcome.n,
        "p_t": f"{outcome.p_t:.2g}" if outcome.n > 1 else "",
        "p_flip": f"{outcome.p_flip:.2g}" if outcome.n > 1 else "",
        "scale": frame["scale"].iloc[0] if outcome.n else "",
        "data": frame["data"].iloc[0] if outcome.n else "",
        "experiment": claim.experiment,
    }
