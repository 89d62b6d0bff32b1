"""Figures of the reader, from made-up rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import script


def rows_of(norms: dict[str, float], **more: Any) -> pd.DataFrame:
    """Two seeds a norm, three evaluations that go down by its speed, and two baselines."""
    rows = []
    for norm, speed in norms.items():
        for seed in (0, 1):
            common = {
                "id": f"{norm}{seed}{more}",
                "seed": seed,
                "norm.name": norm,
                "scale": "desk",
                "data": "made up",
                "optimizer.lr": 0.002,
                **more,
            }
            for k in range(3):
                value = {"step": 100 * k, "value": 0.9 - speed * k - 0.01 * seed}
                rows += [{**common, **value, "metric": metric} for metric in ("valid/error", "valid/nll")]
            rows += [{**common, "step": 200, "metric": f"baselines/{r}", "value": v} for r, v in {"a": 0.5, "b_c": 0.51}.items()]
    return pd.DataFrame(rows)


def test_figure_2_shows_all_arms_baselines_and_the_papers_curves() -> None:
    figure = script("figures/fig2_question_answering.py").draw(
        rows_of({"none": 0.1, "bn": 0.15, "bn_everywhere": 0.2, "ln": 0.3})
    )
    error, nll, paper = figure.axes
    assert len(nll.get_lines()) == 4 * 3  # each seed and the mean
    levels = [line.get_ydata()[0] for line in error.get_lines() if line.get_linestyle() == ":"]
    assert levels == [0.5, 0.51]
    assert [t.get_text() for t in error.texts] == ["a / b c"]  # lines that lie close together share a label
    assert len(paper.get_lines()) == 4
    assert max(max(line.get_xdata()) for line in paper.get_lines()) == pytest.approx(799, rel=0.01)  # thousands


def test_gain_sensitivity_draws_each_runs_best_over_its_gain() -> None:
    frame = pd.concat([rows_of({"ln": 0.1 * gain, "bn": 0.0}, **{"norm.gain": gain}) for gain in (0.1, 1.0, 2.0)])
    error, _ = script("figures/reader_settings.py").over("norm.gain", "initial gain")(frame).axes
    drawn = [float(y) for line in error.get_lines() for y in line.get_ydata()]
    for gain in (0.1, 1.0, 2.0):
        assert any(np.isclose(y, 0.895 - 0.2 * gain) for y in drawn)  # the mean over two seeds of the best of each
