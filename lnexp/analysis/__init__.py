"""The paper's mathematics measured (sections 3.1 and 5), without long training. `make analysis` writes results/tables/analysis_*.

An analysis has a declaration here and a module of its name, whose `runs(norm, seed, **settings)` yields one `Run` for each
configuration that it measures. A seed is a draw of weights and data; with one seed, all norms get equal draws. This file does
not import torch: tables, claims and figures read the declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Run(NamedTuple):
    """One configuration measured at one seed.

    Attributes:
        facts: what it is, beside norm and seed: columns and values, such as {"cell": "lstm"}.
        values: (step, metric, value) for each measurement; metric is "<split>/<name>", step is at least 1.
    """

    facts: Mapping[str, Any]
    values: list[tuple[int, str, float]]


@dataclass(frozen=True)
class Analysis:
    """The declaration of an analysis.

    Attributes:
        where: section of the paper.
        settings: arguments of the module's `runs`; part of the definition of each claim that the analysis decides.
        seeds: the draws.
        revision: raise it when a change of code changes numbers beyond rounding.
        notes: what a reader must know, a sentence each; printed in the report.
    """

    where: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    revision: int = 1
    notes: tuple[str, ...] = field(default=())


ANALYSES: dict[str, Analysis] = {
    "table1": Analysis(
        where="section 5.1, Table 1",
        settings={
            "draws": 20,
            "cases": 16,
            "features": 12,
            "units": 32,
            "steps": 4,
            "eps": [1e-3, 1e-5, 1e-7, 1e-9, 1e-30],
            "tolerance": 1e-9,
            "visible": 1e-3,
        },
        seeds=(0, 1, 2, 3, 4),
        notes=(
            "Table 1 is measured in float64 at eps = 1e-30, which leaves every variance as it is; the paper's formulas have no eps.",
            "Under weight normalisation the transformed weights are v of w = g v / |v|: the paper's gain g is a parameter of its own.",
            "An entry counts as invariant where the largest change of 20 draws is below 1e-9 of the largest output, and as not "
            "invariant where the smallest is above 1e-3.",
        ),
    ),
}


def table_of(name: str) -> str:
    """The name of an analysis's tables: results/tables/<table>.csv and <table>_runs.csv."""
    return f"analysis_{name}"
