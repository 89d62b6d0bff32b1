"""Final values by settings, and the best of a setting, on made-up runs; a figure of several presets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lnexp.evidence import figures
from lnexp.evidence.figures import Figure
from lnexp.evidence.settings import best_of, final_values


def frame(curves: dict[tuple[str, float, int], list[float]], lost: str = "") -> pd.DataFrame:
    """(norm, rate, seed) -> an evaluation every 10 updates."""
    rows = []
    for (norm, rate, seed), curve in curves.items():
        run = {"id": f"{norm}-{rate}-{seed}", "norm.name": norm, "optimizer.lr": rate, "seed": seed}
        run["status"] = "diverged" if run["id"] == lost else "finished"
        rows += [{**run, "metric": "valid/error", "step": 10 * k, "value": value} for k, value in enumerate(curve)]
    return pd.DataFrame(rows)


CURVES = {
    ("ln", 0.1, 0): [9.0, 8.0, 4.0, 3.0, 2.0, 1.0],
    ("ln", 0.2, 0): [9.0] * 6,
    ("none", 0.1, 0): [7.0, 6.0, 5.0, 5.0, 5.0, 3.0],
}


def test_final_values_are_means_over_the_last_fifth() -> None:
    values = final_values(frame(CURVES), "valid/error", ["norm.name", "optimizer.lr"], "lower").set_index("id")["value"]
    assert values.to_dict() == {"ln-0.1-0": 1.0, "ln-0.2-0": 9.0, "none-0.1-0": 3.0}
    ten = frame({("ln", 0.1, 0): [5.0] * 9 + [4.0, 2.0]})
    assert final_values(ten, "valid/error", ["norm.name"], "lower")["value"].tolist() == [3.0]


@pytest.mark.parametrize(("better", "worst"), [("lower", 9.0), ("higher", 1.0)])
def test_a_run_that_diverged_has_the_worst_value(better: str, worst: float) -> None:
    curves = {**CURVES, ("none", 0.2, 0): [float("nan")]}
    found = final_values(frame(curves, "none-0.1-0"), "valid/error", ["norm.name"], better).set_index("id")["value"]
    assert (found["none-0.1-0"], found["none-0.2-0"]) == (worst, worst)


def test_the_best_of_a_setting_is_taken_seed_by_seed() -> None:
    values = final_values(frame(CURVES), "valid/error", ["norm.name", "optimizer.lr"], "lower")
    best = best_of(values, "optimizer.lr", "lower").set_index("norm.name")["value"]
    assert best.to_dict() == {"ln": 1.0, "none": 3.0}
    assert best_of(values, "optimizer.lr", "higher").set_index("norm.name")["value"]["ln"] == 9.0


def test_a_figure_of_several_presets_has_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = frame({("ln", 0.1, 0): [1.0, 2.0]}), frame({("ln", 0.1, 0): [1.0, 2.0], ("bn", 0.1, 0): [3.0]})
    made = {"first": one, "second": other, "third": one[:0]}
    monkeypatch.setattr(figures, "own_runs", lambda name, scale, results: made[name])
    drawn = []

    def draw(rows: pd.DataFrame) -> str:
        drawn.append(sorted(zip(rows["id"], rows["step"], strict=True)))
        return "text"

    Figure("x", draw, "first", more=("second", "third")).save(tmp_path)
    Figure("x", draw, "third", more=("second",)).save(tmp_path)
    assert drawn == [[("bn-0.1-0", 0), ("ln-0.1-0", 0), ("ln-0.1-0", 10)]] * 2
    assert Figure("x", draw, "third").save(tmp_path).startswith("x: no runs of third in the tables")
