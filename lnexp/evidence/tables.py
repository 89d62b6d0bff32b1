"""Tables: what is kept of the runs. Two files a task, both committed, tidy, with every seed:

    results/tables/<task>_runs.csv   one row a run: id, status, commit ("a; b" where b went on after a), ..., its configuration
    results/tables/<task>.csv        id,step,epoch,seconds,split,metric,value

Tables outlive runs: a run found on this disk replaces its own rows, the rows of runs made elsewhere stay.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from lnexp import paths
from lnexp.config import compose, expand, grid
from lnexp.identity import identity

SCALES = ("paper", "desk", "smoke")  # the strongest evidence first
POINTS = 100  # of one curve that are kept at most
DIGITS = 6  # significant digits that are kept
TRIALS = 100  # seeds from this one on are for trials, such as tuning: what they have chosen, they cannot decide
METRICS = ["id", "step", "epoch", "seconds", "split", "metric", "value"]
FACTS = ["id", "family", "status", "commit", "dirty", "machine", "device", "threads", "torch"]


def family(values: dict[str, Any]) -> str:
    """What runs that differ only in their seed have in common: a hash of an identity without its seed."""
    without_seed = {k: v for k, v in values.items() if k != "seed"}
    return hashlib.sha256(json.dumps(without_seed, sort_keys=True).encode()).hexdigest()[:8]


def read(task: str, results: str | Path = paths.RESULTS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of a task: (one row a run, one row a measurement); empty where there are none yet."""
    folder = Path(results) / "tables"
    if not (folder / f"{task}.csv").exists():
        return pd.DataFrame(columns=FACTS), pd.DataFrame(columns=METRICS)
    return pd.read_csv(folder / f"{task}_runs.csv", dtype={"family": str, "commit": str}), pd.read_csv(folder / f"{task}.csv")


def tabled(task: str, results: str | Path = paths.RESULTS) -> set[str]:
    """The ids, "<task>/<name>", of the runs that a task's tables hold."""
    return {f"{task}/{name}" for name in read(task, results)[0]["id"]}


def load(experiment: str, scale: str | None = None, results: str | Path = paths.RESULTS) -> pd.DataFrame:
    """The measurements of one experiment's runs, each with the columns of its run, and in "data" what the data set is called.

    Args:
        experiment: a preset of configs/experiment. Only runs whose configuration is one of its own, whatever their seed, are
            taken, so that a trial with other values is never mixed in. Seeds of trials go with presets of trials alone.
        scale: None takes the strongest that the tables hold.
        results: the folder that holds tables/.
    """
    every, metrics = read(task_of(experiment), results)
    runs = every[:0]
    for each in [scale] if scale else SCALES:
        if "scale" in every and (every["scale"] == each).any():  # else there is no need to spell out its grid
            runs = every[every["family"].isin(families_of(experiment, each))]
        if len(runs):
            break
    runs = runs[(runs["seed"] >= TRIALS) == is_trial(experiment)] if len(runs) else runs
    frame = metrics.merge(runs, on="id", validate="many_to_one")
    named = frame.reindex(columns=["data.set", "data.name"]).bfill(axis=1)["data.set"]
    return frame.assign(metric=frame["split"] + "/" + frame["metric"], data=named).drop(columns="split")


@cache
def families_of(experiment: str, scale: str | None = None) -> set[str]:
    """The families of a preset's runs, at its own scale or at another one."""
    given = [f"scale={scale}"] if scale else []
    return {family(identity(cfg)) for cfg in grid(experiment, "seed=0", *given)}


@cache
def is_trial(experiment: str) -> bool:
    """Whether a preset's own seeds are those of trials."""
    seeds = {int(o.removeprefix("seed=")) for job in expand([f"experiment={experiment}"]) for o in job if o.startswith("seed=")}
    return min(seeds, default=0) >= TRIALS


@cache
def task_of(experiment: str) -> str:
    """The name of a preset's task."""
    return compose([f"experiment={experiment}"]).task.name


def experiments() -> list[str]:
    """The names of all presets."""
    return sorted(p.stem for p in (paths.CONFIGS / "experiment").glob("*.yaml"))


def make_tables(results: str | Path = paths.RESULTS, scales: Iterable[str] = ("desk", "paper"), prune: bool = False) -> list[str]:
    """Bring the tables up to date with the finished runs on this disk; a line for each table that was written.

    Args:
        results: the folder that holds runs/ and tables/.
        scales: runs of other scales are left out (smoke runs are no evidence).
        prune: drop rows that no preset names any more.
    """
    found: dict[str, list[tuple[dict[str, Any], pd.DataFrame]]] = {}
    for summary in sorted((Path(results) / "runs").glob("*/*/summary.json")):
        facts, metrics = _read_run(summary.parent)
        if facts["scale"] in scales:
            found.setdefault(facts["task.name"], []).append((facts, metrics))
    tables = Path(results) / "tables"
    tasks = set(found) | {p.stem.removesuffix("_runs") for p in tables.glob("*_runs.csv")}
    return [_merge(task, found.get(task, []), Path(results), prune) for task in sorted(tasks)]


def _merge(task: str, found: list[tuple[dict[str, Any], pd.DataFrame]], results: Path, prune: bool) -> str:
    """Write a task's two tables: the old rows but for those of the runs found, and the rows of the runs found."""
    runs, metrics = read(task, results)
    new = {facts["id"] for facts, _ in found}
    old = ~runs["id"].isin(new)
    runs = _stack([runs[old], pd.DataFrame([facts for facts, _ in found])])
    if prune:
        known = set().union(*(families_of(e, s) for e in experiments() for s in SCALES))
        runs = runs[runs["family"].isin(known)]
    metrics = _stack([metrics[~metrics["id"].isin(new)], *(m for _, m in found)])
    metrics = metrics[metrics["id"].isin(set(runs["id"]))]
    order = ["id", "step", "split", "metric"]
    columns = FACTS + sorted(c for c in runs.columns if c not in FACTS)
    _write(runs[columns].sort_values("id"), results / "tables" / f"{task}_runs.csv")
    _write(metrics[METRICS].sort_values(order), results / "tables" / f"{task}.csv")
    return f"{task}: {len(runs)} runs, {len(found)} of them from this disk"


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all frames; whole numbers stay whole beside rows that have no such column."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True).convert_dtypes() if filled else frames[0]


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    frame.to_csv(temporary, index=False, lineterminator="\n")
    os.replace(temporary, path)


def _read_run(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """A finished run's facts, configuration values flattened with dots, and its thinned measurements."""
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    summary = json.loads((folder / "summary.json").read_text())
    starts = json.loads((folder / "env.json").read_text())
    values = identity(cfg)
    facts = {"id": folder.name, "family": family(values), "status": summary["status"]}
    facts |= {name: _all_of([start[name] for start in starts]) for name in FACTS[3:]}
    rows = pd.read_csv(folder / "metrics.csv")
    rows = rows.groupby(["split", "metric"], sort=False, group_keys=False)[rows.columns.tolist()].apply(_thin)
    rows["value"] = rows["value"].map(lambda v: float(f"{v:.{DIGITS}g}"))
    return facts | _flat(values), rows.assign(id=folder.name, seconds=rows["seconds"].round(1))


def _all_of(values: list[Any]) -> Any:
    """What a run's starts agree on; where they do not, all that they say, in the order in which it changed."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else "; ".join(map(str, different))


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS rows, evenly spread, the last one among them."""
    if len(rows) <= POINTS:
        return rows
    keep = np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int))
    return rows.iloc[keep]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
