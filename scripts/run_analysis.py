"""Measure the paper's mathematics (sections 3.1 and 5) and add the results to results/tables/analysis_*.csv.

A run that is measured again replaces its rows; runs of other norms and seeds stay.
"""

import argparse
import importlib
import math
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lnexp import paths, provenance
from lnexp.analysis import ANALYSES, Run, table_of
from lnexp.errors import check_choice
from lnexp.evidence.catalog import analysis_group
from lnexp.evidence.tables import METRICS, add
from lnexp.identity import digest
from lnexp.nn import NORMS
from lnexp.script import script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ANALYSES)}; all where none is given")
    parser.add_argument("--norm", nargs="*", default=list(NORMS), metavar="NORM", help="norms; default: all that are registered")
    parser.add_argument("--seed", nargs="*", type=int, help="seeds; default: those that the analysis declares")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/")
    given = parser.parse_args()
    for name in given.names:
        check_choice("analysis", name, ANALYSES)
    for norm in given.norm:
        check_choice("norm", norm, NORMS)
    code = provenance.commit()
    for name in given.names or ANALYSES:
        started = time.monotonic()
        todo = [(name, norm, tuple(given.seed or ANALYSES[name].seeds)) for norm in given.norm]
        found = [row for part in measured(todo, given.jobs) for row in part]
        line = add(table_of(name), [(facts | code, rows) for facts, rows in found], given.results)
        print(f"{line}; {time.monotonic() - started:.0f} s", flush=True)


def measured(todo: list[tuple[str, str, tuple[int, ...]]], jobs: int) -> Iterable[list[tuple[dict[str, Any], pd.DataFrame]]]:
    """The results of `measure`, in the order in which they are finished."""
    if jobs == 1:
        yield from (measure(*one) for one in todo)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(measure, *one) for one in todo]):
            yield future.result()


def measure(name: str, norm: str, seeds: tuple[int, ...]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The facts, without the commit, and the measurements of an analysis's runs of one norm."""
    torch.set_num_threads(1)
    module = importlib.import_module(f"lnexp.analysis.{name}")
    group = analysis_group(name)
    settings = ANALYSES[name].settings
    return [entry(name, norm, seed, group, run) for seed in seeds for run in module.runs(norm, seed, **settings)]


def entry(name: str, norm: str, seed: int, group: str, run: Run) -> tuple[dict[str, Any], pd.DataFrame]:
    """One run in the form of `lnexp.evidence.tables.add`."""
    facts = {
        "id": f"{norm}-s{seed}-{digest({'group': group, **run.facts})}",
        "family": group,
        "status": "finished" if all(math.isfinite(value) for _, _, value in run.values) else "not finite",
        "machine": provenance.processor(),
        "device": "cpu",
        "threads": 1,
        "torch": torch.__version__,
        "data_digest": None,
        "task.name": table_of(name),
        "revision": ANALYSES[name].revision,
        "scale": "desk",
        "norm.name": norm,
        "seed": seed,
        **run.facts,
    }
    rows = pd.DataFrame(run.values, columns=["step", "metric", "value"])
    rows[["split", "metric"]] = rows["metric"].str.split("/", n=1, expand=True)
    rows = rows.assign(id=facts["id"], epoch=0, seconds=0.0, cpu_seconds=math.nan)  # no times: the same bytes again
    return facts, rows[METRICS]


if __name__ == "__main__":
    sys.exit(script(main))
