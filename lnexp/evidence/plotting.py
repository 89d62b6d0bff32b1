"""One look for all figures: seeds thin, mean bold, 95 % t interval shaded, n in the legend, the paper's curve dashed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from lnexp import paths
from lnexp.evidence.stats import interval
from lnexp.evidence.tables import SCALES, load

NAMES = {
    "none": "no normalisation",
    "bn": "batch norm",
    "bn_everywhere": "batch norm everywhere",
    "ln": "layer norm",
    "wn": "weight norm",
    "rms": "RMS norm",
}
COLOURS = {"none": "#555555", "bn": "#d95f02", "bn_everywhere": "#e6a817", "ln": "#1b6ca8", "wn": "#7a5195", "rms": "#2a9d60"}

STYLE: dict = {
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.hashsalt": "lnexp",
}


def arms(ax: mpl.axes.Axes, frame: pd.DataFrame, metric: str, x: str, log: bool = False) -> None:
    """Draw one metric of all norms in `frame` over the column `x`.

    Args:
        ax: where.
        frame: rows of `results.load`, one batch size.
        metric: "<split>/<name>".
        x: a column of `frame`, such as "step", "seconds" or one that the figure has added.
        log: a logarithmic axis, on which mean and interval are those of the logarithms.
    """
    frame = frame[frame["metric"] == metric]
    present = [norm for norm in NAMES if norm in set(frame["norm.name"])]
    for norm in present:
        rows = frame[frame["norm.name"] == norm]
        seeds = [r.sort_values("step") for _, r in rows.groupby("id")]
        for run in seeds:
            ax.plot(run[x], run["value"], color=COLOURS[norm], linewidth=0.5, alpha=0.35)
        steps = sorted(set.intersection(*(set(run["step"]) for run in seeds)))
        values = np.array([run.set_index("step").loc[steps, "value"] for run in seeds])  # [seed, step]
        across = np.array([run.set_index("step", drop=False).loc[steps, x] for run in seeds]).mean(0)
        inner, outer = (np.log, np.exp) if log else (np.asarray, np.asarray)
        middle = outer(inner(values).mean(0))
        ax.plot(across, middle, color=COLOURS[norm], linewidth=1.8, label=f"{NAMES[norm]} (n={len(seeds)})")
        if len(seeds) > 1:
            low, high = outer(np.array([interval(v) for v in inner(values).T]).T)
            ax.fill_between(across, low, high, color=COLOURS[norm], alpha=0.15, linewidth=0)
    if log:
        ax.set_yscale("log")


def paper_curve(
    ax: mpl.axes.Axes, panel: str, curve: str, norm: str, figure: str, shift: float = 0.0, scale: float = 1.0
) -> None:
    """Draw a curve of the paper's own figure, as read from its vector graphics, at `scale` times its x and moved by `shift`."""
    curves = pd.read_csv(paths.PAPER / "curves.csv", keep_default_na=False)
    rows = curves[(curves["figure"] == figure) & (curves["panel"] == panel) & (curves["curve"] == curve)]
    if rows.empty:
        raise ValueError(f"results/paper/curves.csv has no {figure}, {panel}, {curve}")
    x, y = rows["x"].astype(float) * scale + shift, rows["y"].astype(float)
    ax.plot(x, y, color=COLOURS[norm], linewidth=1, linestyle=(0, (4, 2)), alpha=0.8, label=f"{NAMES[norm]}, paper")


def figure_main(
    script: str, experiment: str, draw: Callable[[pd.DataFrame], mpl.figure.Figure | str], name: str | None = None
) -> None:
    """What every figure script runs: read the tables, draw, write results/figures/<name>.png, or .md where a text is drawn.

    Nothing but results/tables and results/paper is read. Without runs the script says so and writes nothing.

    Args:
        script: the script's own __file__.
        experiment: the preset whose runs are drawn.
        draw: from the rows of `results.load` to a figure, or to a table in Markdown.
        name: of the file; None: the script's own.
    """
    parser = argparse.ArgumentParser(description=f"Draw {Path(script).stem} from the tables.")
    parser.add_argument("--scale", choices=SCALES, help="which runs; by default the strongest that the tables hold")
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/ and figures/")
    arguments = parser.parse_args()
    name = name or Path(script).stem
    frame = load(experiment, arguments.scale, arguments.results)
    if frame.empty:
        print(f"{name}: no runs of {experiment} in the tables; make them with: python train.py experiment={experiment}")
        return
    path = arguments.results / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    with mpl.rc_context(STYLE):
        drawn = draw(frame)
        if isinstance(drawn, str):
            path = path.with_suffix(".md")
            path.write_text(drawn)
        else:
            drawn.savefig(path, metadata={"Software": None})
    print(path)


def paper_rows(experiment: str, table: str, metrics: Iterable[str]) -> dict[str, list[str]]:
    """A table of the paper: model -> one cell a metric, as printed, "-" where there is none."""
    numbers = pd.read_csv(paths.PAPER / "numbers.csv", dtype=str, keep_default_na=False)
    rows = numbers[(numbers["experiment"] == experiment) & (numbers["table_or_figure"] == table)]
    metrics = list(metrics)
    of = {model: rows[rows["model"] == model].set_index("metric")["value"] for model in rows["model"].unique()}
    return {model: [values.get(metric, "-") for metric in metrics] for model, values in of.items()}


def mean_cell(values: Iterable[float], digits: str) -> str:
    """The mean over seeds, with half of its 95 % t interval where there are several; "-" where there is none."""
    array = np.asarray(list(values), float)
    if len(array) < 2:
        return f"{array[0]:{digits}}" if len(array) else "-"
    low, high = interval(array)
    return f"{array.mean():{digits}} ± {(high - low) / 2:{digits}}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def provenance(frame: pd.DataFrame) -> str:
    """Scale, data and number of runs, for the foot of a figure."""
    return f"{frame['scale'].iloc[0]} scale, data {frame['data'].iloc[0]}, {frame['id'].nunique()} runs"
