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
            "Table 1 is measured in float64 at eps = 1e-30, which leaves every variance as it is; the paper's formulas have "
            "no eps.",
            "Under weight normalisation the transformed weights are v of w = g v / |v|: the paper's gain g is a parameter "
            "of its own.",
            "An entry counts as invariant where the largest change of 20 draws is below 1e-9 of the largest output, and as not "
            "invariant where the smallest is above 1e-3.",
        ),
    ),
    "geometry": Analysis(
        where="section 5.2",
        settings={
            "cases": 32,
            "features": 6,
            "units": 6,
            "widths": [3, 4, 8, 16, 32],
            "multiples": [1, 2, 4, 8],
            "input_scales": [0.25, 0.5, 1.0, 2.0, 4.0],
            "shown": [2, 3],
            "training_multiples": [0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
            "training": {"units": 32, "updates": 300, "batch": 32, "rate": 0.1, "every": 20},
        },
        seeds=(0, 1, 2, 3, 4),
        notes=(
            "The Fisher information is computed from derivatives of the natural parameters by automatic differentiation, in "
            "float64 at eps = 1e-30; for batch normalisation through the statistics of its 32 cases.",
            "A norm without gains, such as none, has in their place the step along w / |w| of equation (35).",
            "The net of the training part has one hidden layer of 32 units and is trained on scikit-learn's 1,797 digits by "
            "plain gradient descent at a rate of 0.1, batch 32, for 300 updates.",
        ),
    ),
    "stability": Analysis(
        where="section 3.1",
        settings={
            "cells": ["rnn", "lstm", "gru"],
            "hidden_size": 32,
            "cases": 8,
            "lengths": [1, 3, 10, 30, 100, 300, 1000, 2000],
            "scales": {"drawn": [0.5, 0.71, 1.0, 1.41, 2.0], "trained": [0.5, 1.0, 2.0]},
            "growth_through": 100,
            "jacobian": {"cases": 8, "steps": 50},
            "training": {"length": 30, "cases": 16, "updates": 200, "rate": 3e-3, "clip": 1.0},
            "zero_input": {"eps": [1e-1, 1e-3, 1e-5], "steps": [1, 2, 4, 8]},
        },
        seeds=(5, 6, 7, 8, 9),
        notes=(
            "32 hidden units, eight sequences of the adding problem's inputs (a number in -1 to 1, a marker, a constant 1), "
            "float64.",
            "Each block of W_hh is a random orthogonal matrix times the recurrent scale. States start at random with "
            "standard deviation 0.1: from 0, the first step divides by sqrt(eps) alone.",
            "Batch normalisation takes the statistics of the eight sequences, and its Jacobian and gradient include the "
            "paths through them; its gain starts at 0.1, the other norms' at 1.",
            "Trained nets have made 200 updates of Adam on adding over 30 steps, at one rate for all norms: they are "
            "examples of trained weights, not a comparison of how well norms learn.",
        ),
    ),
    "length": Analysis(
        where="section 3.1",
        settings={
            "problems": ["adding", "copying"],
            "hidden_size": 32,
            "length": 32,
            "factors": [1, 2, 4, 8],
            "cases": 32,
            "updates": 1000,
            "rates": [3e-3, 1e-2, 3e-2],
            "trial_seeds": [100, 101],
            "test_cases": 1000,
        },
        seeds=(5, 6, 7, 8, 9),
        notes=(
            "An LSTM of 32 units, 1,000 updates of Adam on batches of 32 sequences of 16 to 32 steps, float32; tested on 32 "
            "to 256.",
            "The learning rate (0.003, 0.01 or 0.03) is chosen for each norm and problem on seeds 100 and 101, by the error "
            "at 32 steps.",
            "Batch normalisation has statistics for each of 32 steps, estimated after training, and repeats the last ones "
            "beyond.",
            "Where a norm has not learned a problem at 32 steps, it has nothing to lose at longer ones: compare it in "
            "adding alone.",
        ),
    ),
}


def table_of(name: str) -> str:
    """The name of an analysis's tables: results/tables/<table>.csv and <table>_runs.csv."""
    return f"analysis_{name}"
