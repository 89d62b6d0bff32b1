"""The common look of all figures.

Ours: seeds thin, their mean bold with markers, its 95 % t interval shaded. The paper's own curves: dashed. Every norm has a
colour and a marker, so that no figure depends on colour alone. Title, legend and caption are part of the picture.
"""

from __future__ import annotations

import math
import textwrap
import zlib
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from lnexp import paths
from lnexp.evidence.catalog import catalog, label
from lnexp.evidence.stats import interval

WIDTH = 7.5  # inches of every figure: 975 pixels, about the width of a page on GitHub
STYLE: dict = {
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.hashsalt": "lnexp",
}
# Colour and marker of a norm; the colours are those of Okabe and Ito, which colour-blind readers tell from one another.
NORM_STYLES = {
    "none": ("#555555", "o"),
    "bn": ("#d55e00", "s"),
    "bn_everywhere": ("#e69f00", "D"),
    "ln": ("#0072b2", "^"),
    "wn": ("#cc79a7", "v"),
    "rms": ("#009e73", "P"),
    "ln_simple": ("#56b4e9", "<"),
    "group": ("#6a3d9a", "X"),
    "dyt": ("#a6761d", "h"),
}
MORE_STYLES = [(colour, marker) for marker in "*>p8dX<h" for colour in ("#56b4e9", "#000000", "#8c564b", "#6a3d9a", "#a6761d")]
DASHES = (0, (4, 2))  # the paper's curves
MARKERS = 6  # on a line, about


def norm_style(norm: str) -> tuple[str, str]:
    """The colour and the marker of a norm: its own, or one of MORE_STYLES by its place in the catalog."""
    if norm in NORM_STYLES:
        return NORM_STYLES[norm]
    others = [name for name in catalog()["norms"] if name not in NORM_STYLES]
    return MORE_STYLES[(others.index(norm) if norm in others else zlib.crc32(norm.encode())) % len(MORE_STYLES)]


def colour(norm: str) -> str:
    return norm_style(norm)[0]


def norms_of(frame: pd.DataFrame) -> list[str]:
    """The norms of a frame's runs in the order in which they are drawn: those with a style of their own first."""
    order = list(dict.fromkeys([*NORM_STYLES, *catalog()["norms"], *sorted(set(frame["norm.name"]))]))
    return [norm for norm in order if norm in set(frame["norm.name"])]


def arms(ax: mpl.axes.Axes, frame: pd.DataFrame, metric: str, x: str, log: bool = False, shade: bool = True) -> None:
    """Draw one metric of all norms in `frame` over the column `x`: each seed, the mean over seeds and its interval.

    Args:
        ax: where.
        frame: rows of `tables.load`, one batch size.
        metric: "<split>/<name>".
        x: a column of `frame`, such as "step", "seconds" or one that the figure has added.
        log: a logarithmic axis, with the mean and the interval of the logarithms.
        shade: shade the 95 % t interval of the mean.
    """
    frame = frame[frame["metric"] == metric]
    for order, norm in enumerate(norms_of(frame)):
        line_colour, marker = norm_style(norm)
        seeds = [r.sort_values("step") for _, r in frame[frame["norm.name"] == norm].groupby("id")]
        for run in seeds:
            ax.plot(run[x], run["value"], color=line_colour, linewidth=0.5, alpha=0.35)
        steps = sorted(set.intersection(*(set(run["step"]) for run in seeds)))
        values = np.array([run.set_index("step").loc[steps, "value"] for run in seeds])  # [seed, step]
        across = np.array([run.set_index("step", drop=False).loc[steps, x] for run in seeds]).mean(0)
        inner, outer = (np.log, np.exp) if log else (np.asarray, np.asarray)
        look: Any = {"color": line_colour, "marker": marker, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.4}
        named = f"{label(norm)} (n={len(seeds)})"
        ax.plot(across, outer(inner(values).mean(0)), linewidth=1.6, markevery=_spread(len(across), order), label=named, **look)
        if shade and len(seeds) > 1:
            low, high = outer(np.array([interval(v) for v in inner(values).T]).T)
            ax.fill_between(across, low, high, color=line_colour, alpha=0.15, linewidth=0)
    if log:
        ax.set_yscale("log")


def paper_curve(
    ax: mpl.axes.Axes,
    panel: str,
    curve: str,
    norm: str,
    figure: str,
    shift: float = 0.0,
    scale: float = 1.0,
    until: float = np.inf,
    band: str = "",
) -> None:
    """Draw a curve of the paper's own figure, as read from its vector graphics.

    Args:
        ax: where.
        panel, curve, figure: as in results/paper/curves.csv.
        norm: whose colour and marker it takes.
        shift, scale: the curve is drawn over scale * x + shift.
        until: points beyond are left out.
        band: the outline, in the same file, of the area that the paper shades around the curve.
    """
    line_colour, marker = norm_style(norm)
    x, y = paper_points(figure, panel, curve)
    x = x * scale + shift
    x, y = x[x <= until], y[x <= until]
    look: Any = {"color": line_colour, "linewidth": 1, "linestyle": DASHES, "marker": marker, "markersize": 3.5}
    markers: Any = {
        "markerfacecolor": "white",
        "markeredgewidth": 0.8,
        "markevery": _spread(len(x), list(NORM_STYLES).index(norm)),
    }
    ax.plot(x, y, label=f"{label(norm)}, paper", **look, **markers)
    if band:
        x, y = paper_points(figure, panel, band)
        ax.fill(x * scale + shift, y, color=line_colour, alpha=0.12, linewidth=0)


def paper_points(figure: str, panel: str, curve: str) -> tuple[pd.Series, pd.Series]:
    """x and y of a curve in results/paper/curves.csv."""
    curves = _paper_curves()
    rows = curves[(curves["figure"] == figure) & (curves["panel"] == panel) & (curves["curve"] == curve)]
    if rows.empty:
        raise ValueError(f"results/paper/curves.csv has no {figure}, {panel}, {curve}")
    return rows["x"].astype(float), rows["y"].astype(float)


@cache
def _paper_curves() -> pd.DataFrame:
    return pd.read_csv(paths.PAPER / "curves.csv", keep_default_na=False)


def _spread(points: int, order: int) -> tuple[int, int]:
    """matplotlib's `markevery` for about MARKERS markers, at other points for each line."""
    every = max(1, points // MARKERS)
    return order * every // 3 % every, every


def finish(
    figure: mpl.figure.Figure, frame: pd.DataFrame, title: str, *sentences: str, lines: bool = True, shaded: bool = True
) -> mpl.figure.Figure:
    """Give a figure its title, one legend for all panels, and the caption below them.

    Args:
        figure: whose lines have labels.
        frame: the rows that were drawn.
        title: one line.
        sentences: what the caption says beside that.
        lines: whether the caption explains thin and bold lines, as `arms` draws them.
        shaded: whether it explains intervals, too.
    """
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault("the paper's curve" if name.endswith(", paper") else name, handle)
    if "the paper's curve" in handles:  # of any norm, at the end
        del handles["the paper's curve"]
        handles["the paper's curve"] = Line2D([], [], color="black", linewidth=1, linestyle=DASHES)
    if handles:
        columns = _columns(list(handles), 16 * figure.get_figwidth())
        legend = figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns, title=title)
        legend.get_title().set_fontsize(9.5)
    else:
        figure.suptitle(title, fontsize=9.5)
    explained = "Thin: each of n seeds; bold: their mean" + "; shaded: its 95 % t interval" * shaded + "."
    text = " ".join(filter(None, [explained * lines, *sentences, f"Ours: {provenance(frame)}."]))
    wrapped = textwrap.fill(text, int(19 * figure.get_figwidth()), break_on_hyphens=False)
    figure.supxlabel(wrapped, fontsize=7, x=0.01, ha="left", linespacing=1.35)
    return figure


def _columns(names: list[str], room: float) -> int:
    """The most columns of a legend, filled column by column, that fit into `room` characters."""
    for rows in range(1, len(names) + 1):
        columns = math.ceil(len(names) / rows)
        # matplotlib gives the first columns one more entry where they do not divide the entries
        ends = np.cumsum([len(names) // columns + (k < len(names) % columns) for k in range(columns)])
        widest = [max(len(name) + 8 for name in part) for part in np.split(np.array(names, dtype=object), ends[:-1])]
        if sum(widest) <= room:
            break
    return columns


def provenance(frame: pd.DataFrame) -> str:
    """Scale, data and number of runs; of an analysis, number of measurements and seeds."""
    if "task.name" in frame and frame["task.name"].iloc[0].startswith("analysis_"):
        seeds = sorted(frame["seed"].unique())
        return f"{frame['id'].nunique():,} computations, seeds {seeds[0]} to {seeds[-1]}"
    return f"{frame['scale'].iloc[0]} scale, data {frame['data'].iloc[0]}, {frame['id'].nunique()} runs"
