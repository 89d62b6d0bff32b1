"""Tables of finished runs, tidy and committed, with every seed. Two files per task:

    results/tables/<task>_runs.csv   one row per run: id, status, commit ("a; b" where b resumed a's), ..., its configuration
    results/tables/<task>.csv        id,step,epoch,seconds[,cpu_seconds],split,metric,value

Tables outlive runs: a run found on this disk replaces its own rows, the rows of runs made elsewhere stay. An analysis without
training runs writes one plain table, results/tables/<name>.csv, of columns of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lnexp import paths
from lnexp.analysis import ANALYSES
from lnexp.errors import UserError
from lnexp.evidence.catalog import SCALES, TRIALS, experiments, is_trial, run_group, run_groups, task_of
from lnexp.files import write_whole

POINTS = 100  # at most, of one curve
DIGITS = 6  # significant digits of a value
METRICS = ["id", "step", "epoch", "seconds", "cpu_seconds", "split", "metric", "value"]
FACTS = ["id", "family", "status", "commit", "dirty", "machine", "device", "threads", "torch", "data_digest"]
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, OmegaConfBaseException, YAMLError)
OPTIONAL = ["cpu_seconds", "data_digest"]  # columns that older runs lack; not written where they are empty


def read(task: str, results: str | Path = paths.RESULTS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of a task: (one row per run, one row per measurement); empty where there are none yet."""
    folder = Path(results) / "tables"
    if not (folder / f"{task}.csv").exists():
        return pd.DataFrame(columns=FACTS), pd.DataFrame(columns=METRICS)
    text = {"family": str, "commit": str, "data_digest": str}
    return pd.read_csv(folder / f"{task}_runs.csv", dtype=text), pd.read_csv(folder / f"{task}.csv")


def read_plain(name: str, results: str | Path = paths.RESULTS) -> pd.DataFrame:
    """The table of an analysis without training runs, results/tables/<name>.csv; empty where there is none yet."""
    path = Path(results) / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def recorded(task: str, results: str | Path = paths.RESULTS) -> set[str]:
    """The ids, "<task>/<name>", of the runs recorded in a task's tables."""
    return {f"{task}/{name}" for name in read(task, results)[0]["id"]}


def load(experiment: str, scale: str | None = None, results: str | Path = paths.RESULTS) -> pd.DataFrame:
    """The measurements of one experiment's runs, one row each, with the columns of their run.

    "metric" is "<split>/<name>"; "data" names the data set; "cpu_seconds" and "data_digest" are missing values for older runs.

    Args:
        experiment: a preset of configs/experiment. Only runs of its run groups are taken, so that a run with other values is
            never mixed in. Trial seeds go with presets of trials, other seeds with other presets.
        scale: "paper", "desk" or "smoke"; None takes the first of these with runs in the tables.
        results: the folder that holds tables/.

    Raises:
        UserError: runs that differ only in their seed were trained on different data.
    """
    rows, metrics = read(task_of(experiment), results)
    runs = rows[:0]
    for each in [scale] if scale else SCALES:
        runs = rows[rows["family"].isin(run_groups(experiment, each))]
        if len(runs):
            break
    runs = runs[(runs["seed"] >= TRIALS) == is_trial(experiment)] if len(runs) else runs
    for line in _mixed_data(runs).values():
        raise UserError(f"results/tables: {line}: remove the rows of one of them")
    named = runs.reindex(columns=["data.set", "data.name"]).bfill(axis=1)["data.set"].fillna("none")
    frame = metrics.merge(runs.assign(data=named), on="id", validate="many_to_one")
    frame = frame.reindex(columns=frame.columns.union(OPTIONAL, sort=False))
    return frame.assign(metric=frame["split"] + "/" + frame["metric"]).drop(columns="split")


def make_tables(results: str | Path = paths.RESULTS, scales: Iterable[str] = ("desk", "paper"), prune: bool = False) -> list[str]:
    """Bring the tables up to date with the finished runs on this disk; tables of analyses stay as `add` has written them.

    Left out, with a line that says why: runs whose files cannot be read, whose folder is not named after their stored
    configuration, or that differ only in their seed but were trained on different data.

    Args:
        results: the folder that holds runs/ and tables/.
        scales: runs of other scales are left out (smoke runs are no evidence).
        prune: drop rows that belong to no preset any more.

    Returns:
        A line for each table written and for each run or group of runs left out.
    """
    found: dict[str, list[tuple[dict[str, Any], pd.DataFrame]]] = {}
    lines = []
    for summary in sorted((Path(results) / "runs").glob("*/*/summary.json")):
        try:
            facts, metrics = _read_run(summary.parent)
        except UNREADABLE as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            lines.append(f"{summary.parent}: its files cannot be read ({reason}): left out; remove it and run it again")
            continue
        expected = facts.pop("digest")
        if not summary.parent.name.endswith(f"-{expected}"):
            lines.append(f"{summary.parent}: its config.yaml has the hash {expected}: left out; remove it and run it again")
        elif facts["scale"] in scales:
            found.setdefault(facts["task.name"], []).append((facts, metrics))
    tables = Path(results) / "tables"
    for task in sorted(set(found) | {p.stem.removesuffix("_runs") for p in tables.glob("*_runs.csv")}):
        lines += _merge(task, found.get(task, []), Path(results), prune)
    return lines


def add(task: str, found: list[tuple[dict[str, Any], pd.DataFrame]], results: str | Path = paths.RESULTS) -> str:
    """Add runs that have no folder under runs/, such as those of an analysis, to a task's tables; a line that says so.

    Args:
        found: for each run its facts, with all of FACTS, and its measurements, with the columns METRICS.
    """
    return _merge(task, [(facts, _rounded(rows)) for facts, rows in found], Path(results), False)[-1]


def _merge(task: str, found: list[tuple[dict[str, Any], pd.DataFrame]], results: Path, prune: bool) -> list[str]:
    """Write a task's two tables: the rows of the runs found, and the old rows of all other runs."""
    runs, metrics = read(task, results)
    mixed = _mixed_data(_stack([runs, pd.DataFrame([facts for facts, _ in found])]))
    found = [(facts, rows) for facts, rows in found if facts["family"] not in mixed]
    new = {facts["id"] for facts, _ in found}
    runs = _stack([runs[~runs["id"].isin(new)], pd.DataFrame([facts for facts, _ in found])])
    if prune:
        runs = runs[runs["family"].isin(set().union(*(run_groups(e, s) for e in [*experiments(), *ANALYSES] for s in SCALES)))]
    metrics = _stack([metrics[~metrics["id"].isin(new)], *(m for _, m in found)])
    metrics = metrics[metrics["id"].isin(set(runs["id"]))]
    columns = FACTS + sorted(c for c in runs.columns if c not in FACTS)
    _write(runs.reindex(columns=columns).sort_values("id"), results / "tables" / f"{task}_runs.csv")
    order = ["id", "step", "split", "metric"]
    _write(metrics.reindex(columns=METRICS).sort_values(order), results / "tables" / f"{task}.csv")
    left_out = [f"{task}: {line}: left out" for line in mixed.values()]
    return [*left_out, f"{task}: {len(runs)} runs, {len(found)} of them from this disk"]


def _mixed_data(runs: pd.DataFrame) -> dict[str, str]:
    """Run groups trained on more than one data set: group -> what is wrong. An unknown digest agrees with all others."""
    if "data_digest" not in runs:
        return {}
    mixed = {}
    for group, rows in runs.dropna(subset="data_digest").groupby("family"):
        if rows["data_digest"].nunique() > 1:
            each = [f"{', '.join(ids)} on data {data}" for data, ids in rows.groupby("data_digest")["id"]]
            mixed[str(group)] = f"runs of one configuration were trained on different data ({'; '.join(each)})"
    return mixed


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all frames; integers stay integers beside rows without such a column."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True).convert_dtypes() if filled else frames[0]


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whole, without the optional columns that are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = [column for column in OPTIONAL if column in frame and frame[column].isna().all()]
    write_whole(path, frame.drop(columns=empty).to_csv(index=False, lineterminator="\n").encode())


def _read_run(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """A finished run's facts, with its configuration flattened to dotted keys, and its thinned measurements.

    The fact "digest" is the hash that the folder's name must end in.
    """
    from lnexp.identity import digest, identity

    cfg = OmegaConf.load(folder / "config.yaml")
    if not isinstance(cfg, DictConfig):
        raise ValueError("config.yaml holds no keys")
    summary = json.loads((folder / "summary.json").read_text())
    starts = json.loads((folder / "env.json").read_text())
    values = identity(cfg)
    facts = {"id": folder.name, "digest": digest(values), "family": run_group(values), "status": summary["status"]}
    facts |= {name: _all_of([start[name] for start in starts]) for name in FACTS[3:-1]}
    facts |= _later(cfg)
    facts["data_digest"] = _all_of([one for start in starts if (one := start.get("data", {}).get("digest"))] or [None])
    rows = pd.read_csv(folder / "metrics.csv")
    rows = rows.groupby(["split", "metric"], sort=False, group_keys=False)[rows.columns.tolist()].apply(_thin)
    return facts | _flat(values), _rounded(rows.assign(id=folder.name))


def _rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Measurements with the digits that tables hold."""
    digits = {"seconds": 1, "cpu_seconds": 3}  # claims on time take logarithms of processor time
    times = {column: rows[column].round(n) for column, n in digits.items() if column in rows}
    return rows.assign(value=rows["value"].map(lambda v: float(f"{v:.{DIGITS}g}")), **times)


def _later(cfg: DictConfig) -> dict[str, Any]:
    """The knobs that came later, which an identity leaves out at their first value: arms of claims are selected by them."""
    from lnexp.identity import LATER
    from lnexp.tasks import TASKS

    keys = [*LATER, *(f"task.{key}" for key in TASKS[cfg.task.name].later_knobs)]
    found = {key: OmegaConf.select(cfg, key) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _all_of(values: list[Any]) -> Any:
    """The value that all starts of a run share; where they differ, all of them, in order, separated by "; "."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else "; ".join(map(str, different))


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS rows, evenly spread, the last one included."""
    if len(rows) <= POINTS:
        return rows
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int))]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values with dotted keys; lists as text, separated by spaces."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
