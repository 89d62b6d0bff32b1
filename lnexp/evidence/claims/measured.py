"""From the rows of tables to one effect per seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lnexp.evidence.claims.base import Claim
from lnexp.evidence.effects import Series

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # updates, cpu_seconds, value


class Runs:
    """The runs of an experiment at one scale, from the rows of `tables.load`.

    Evaluations before the first update are left out.

    Attributes:
        facts: one row per run, its configuration in the columns.
        curves: (run id, metric) -> its evaluations in order.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.facts = frame.drop_duplicates("id") if len(frame) else frame
        self.curves: dict[tuple[str, str], Curve] = {}
        if frame.empty:
            return
        times = "cpu_seconds" if "cpu_seconds" in frame else "step"
        frame = frame[frame["step"] > 0].sort_values(["id", "metric", "step"], kind="stable")
        step, value = frame["step"].to_numpy(float), frame["value"].to_numpy(float, na_value=np.nan)
        seconds = frame[times].to_numpy(float, na_value=np.nan) * (1.0 if times == "cpu_seconds" else np.nan)
        groups: dict[tuple[str, str], np.ndarray] = frame.reset_index(drop=True).groupby(["id", "metric"]).indices  # type: ignore[assignment]
        for key, rows in groups.items():
            self.curves[key] = step[rows], seconds[rows], value[rows]


@dataclass(frozen=True)
class Effects:
    """A claim's effects of some runs.

    Attributes:
        of_seed: the effect of each seed, indexed by seed; positive where the claim holds.
        bound: 1 where the true effects may be larger, -1 smaller, 0 neither, or both.
        runs: the runs they are computed from, one row each.
        missing: why seeds that have a run in each arm are left out; "" where none is.
    """

    of_seed: pd.Series
    bound: int
    runs: pd.DataFrame
    missing: str = ""


def effects(claim: Claim, runs: Runs, seeds: Iterable[int]) -> Effects:
    """The claim's effect for every one of `seeds` that has a run in each arm.

    A run that diverged ends with the worst value that any run of the claim has shown; so does, at that point, a value that is not
    finite.

    Raises:
        ValueError: several runs of one seed match one arm.
    """
    metric, facts = claim.measure.metric, runs.facts
    if facts.empty or not {key for arm in claim.arms for key in arm} <= set(facts.columns):
        return Effects(pd.Series(dtype=float), 0, facts[:0])
    ids, seed_of, wanted = facts["id"].tolist(), facts["seed"].tolist(), set(seeds)
    lost = (facts["status"] == "diverged").tolist()
    usable = np.array(
        [seed in wanted and ((id, metric) in runs.curves or gone) for id, seed, gone in zip(ids, seed_of, lost, strict=True)],
        bool,
    )
    of_arm: list[dict[int, list[int]]] = []  # for each arm: seed -> row numbers of its runs
    for arm in claim.arms:
        of_arm.append({})
        for k in np.flatnonzero(np.logical_and.reduce([usable, *((facts[key] == value) for key, value in arm.items())])):
            of_arm[-1].setdefault(seed_of[k], []).append(int(k))
    sign = 1.0 if claim.measure.better == "lower" else -1.0
    never = np.array([1.0]), np.array([np.nan]), np.array([np.nan])  # the curve of a run that diverged before any evaluation
    curves = {k: runs.curves.get((ids[k], metric), never) for arm in of_arm for rows in arm.values() for k in rows}
    finite = [sign * value[np.isfinite(value)] for _, _, value in curves.values()]
    worst = max((value.max() for value in finite if len(value)), default=np.nan)

    def series(rows: list[int]) -> Series:
        if len(rows) != 1:
            raise ValueError(f"claim {claim.id}: several runs of one seed match one arm: {sorted(ids[k] for k in rows)}")
        (k,) = rows
        updates, seconds, raw = curves[k]
        value = np.where(np.isfinite(raw), sign * raw, worst)
        return Series(updates, seconds, np.append(value[:-1], worst) if lost[k] else value, lost[k])

    of_seed, bounds, used = {}, set(), set()
    for seed in sorted(set.intersection(*(set(arm) for arm in of_arm))):
        compared = [series(arm[seed]) for arm in of_arm]
        of_seed[seed] = claim.measure.contrast(compared)
        bounds |= {claim.measure.bound(compared)} - {0}
        used |= {k for arm in of_arm for k in arm[seed]}
    found, compared_runs = pd.Series(of_seed, dtype=float), facts.iloc[sorted(used)]
    missing = ""
    if found.isna().any():
        missing = "processor time was not recorded" if claim.measure.timed else "a run has no value to compare"
    places = [column for column in ("machine", "device", "threads", "torch") if column in compared_runs]
    if claim.measure.timed and not missing and used and len(compared_runs[places].drop_duplicates()) > 1:
        found[:], missing = np.nan, "its runs were made on different machines, thread counts or versions of torch"
    if used and "data_digest" in compared_runs and compared_runs["data_digest"].dropna().nunique() > 1:
        found[:], missing = np.nan, "its runs were made from different data"
    if used and "dirty" in compared_runs and compared_runs["dirty"].astype(str).str.contains("True").any():
        found[:], missing = np.nan, "its runs were made with uncommitted changes"
    return Effects(found.dropna(), bounds.pop() if len(bounds) == 1 else 0, compared_runs, missing)
