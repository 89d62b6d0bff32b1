"""Final values of runs by their settings, and how they are drawn: lines over a setting, one for each norm or placement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.effects import LATE
from lnexp.evidence.plotting import MORE_STYLES, norm_style
from lnexp.evidence.stats import interval

Style = Callable[[Any], tuple[str, str, str]]  # of a line's value: its name, colour and marker


def final_values(frame: pd.DataFrame, metric: str, keys: Sequence[str], better: str) -> pd.DataFrame:
    """One row per run: its `keys`, "seed", and "value", the mean over the last fifth of the run, as in `effects.Better`.

    A run that diverged has the worst value of any evaluation in the frame.
    """
    rows = frame[(frame["metric"] == metric) & (frame["step"] > 0)]
    rows = rows.assign(value=rows["value"].where(np.isfinite(rows["value"].astype(float))))
    worst = rows["value"].max() if better == "lower" else rows["value"].min()
    last = rows[rows["step"] > (1 - LATE) * rows.groupby("id")["step"].transform("max")]
    runs = frame.drop_duplicates("id").set_index("id")
    value = last.groupby("id")["value"].mean().reindex(runs.index)
    return runs[[*keys, "seed"]].assign(value=value.where(runs["status"] != "diverged", worst).fillna(worst)).reset_index()


def best_of(values: pd.DataFrame, setting: str, better: str) -> pd.DataFrame:
    """The best value over `setting`, for each seed and each combination of the other keys."""
    keys = [column for column in values if column not in ("id", "value", setting)]
    grouped = values.groupby(keys, dropna=False)["value"]
    return (grouped.min() if better == "lower" else grouped.max()).reset_index()


def lines(
    ax: mpl.axes.Axes, values: pd.DataFrame, x: str, line: str, style: Style, order: Sequence[Any] | None = None, log: bool = True
) -> None:
    """Mean over seeds against the column `x` with its 95 % t interval, one line for each value of the column `line`.

    Args:
        order: the values of `line` in the order of the legend.
        log: a logarithmic x axis, ticks at the settings.
    """
    present = set(values[line])
    order = [one for one in order or sorted(present) if one in present]
    settings = sorted(values[x].unique())
    for k, one in enumerate(order):
        name, line_colour, marker = style(one)
        of = values[values[line] == one].groupby(x)["value"]
        mean, each = of.mean(), [group.to_numpy(float) for _, group in of]
        ends = np.array([interval(v) if len(v) > 1 else (v.mean(), v.mean()) for v in each])
        shift = 1.015 ** (k - (len(order) - 1) / 2) if log else 1.0
        at = mean.index.to_numpy(float) * shift
        error = np.abs(ends.T - mean.to_numpy(float))
        n = min(map(len, each))
        look: Any = {"color": line_colour, "marker": marker, "markersize": 4.5, "capsize": 2, "linewidth": 1.3, "elinewidth": 0.8}
        ax.errorbar(at, mean.to_numpy(float), error, label=f"{name} (n={n})", **look)
    if log:
        ax.set_xscale("log")
        ax.set_xticks(settings, [f"{one:g}" for one in settings])
        ax.minorticks_off()


def of_norm(name: str) -> tuple[str, str, str]:
    """The style of a line that is a norm."""
    return label(name), *norm_style(name)


def of_list(names: dict[str, str]) -> Style:
    """The style of lines with these names: value -> what the legend calls it."""
    order = list(names)

    def style(one: str) -> tuple[str, str, str]:
        k = order.index(one)
        return names[one], *OTHERS[k % len(OTHERS)]

    return style


OTHERS = [
    ("#0072b2", "^"),
    ("#d55e00", "s"),
    ("#009e73", "P"),
    ("#cc79a7", "v"),
    ("#e69f00", "D"),
    ("#555555", "o"),
    *MORE_STYLES,
]
MEANING = "Marker: mean over n seeds of the mean over the last fifth of each run, with its 95 % t interval."
