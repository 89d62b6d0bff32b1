"""Extensions of section 6.2: best error and NLL of the attentive reader against the initial gain, and the learning rate."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norm_style, norms_of
from lnexp.evidence.stats import interval

PANELS = (("valid/error", "best validation error"), ("valid/nll", "best validation NLL (nats)"))


def over(column: str, name: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """A panel per measure: the best value of each run, the settings of `column` side by side."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
        settings = sorted(frame[column].unique())
        for ax, (metric, axis) in zip(axes, PANELS, strict=True):
            best = frame[frame["metric"] == metric].groupby(["norm.name", column, "seed"])["value"].min().reset_index()
            draw_points(ax, best, column, settings)
            ax.set(xlabel=name, ylabel=axis)
            ax.set_xticks(range(len(settings)), [f"{setting:g}" for setting in settings])
        seeds = frame["seed"].nunique()
        what = "Marker: mean over seeds, with its 95 % t interval; dot: one run." if seeds > 1 else "Marker: one run."
        return finish(
            figure, frame, f"Attentive reader: sensitivity to the {name}", what, "Settings are evenly spaced.", lines=False
        )

    return draw


def draw_points(ax: plt.Axes, best: pd.DataFrame, column: str, settings: list[float]) -> None:
    """Markers without lines, since nothing was measured between two settings; norms side by side at each of them."""
    norms = norms_of(best)
    for k, norm in enumerate(norms):
        line_colour, marker = norm_style(norm)
        of = best[best["norm.name"] == norm]
        named = f"{label(norm)} (n={of['seed'].nunique()})"
        for n, setting in enumerate(settings):
            values = of[of[column] == setting]["value"].to_numpy()
            if not len(values):
                continue
            x = n + 0.2 * (k - (len(norms) - 1) / 2)
            ends = np.abs(np.array([interval(values)]).T - values.mean()) if len(values) > 1 else None
            look: Any = {"color": line_colour, "marker": marker, "markersize": 5, "capsize": 2, "linewidth": 1}
            ax.errorbar(x, values.mean(), ends, label=named if n == 0 else None, **look)
            if len(values) > 1:
                ax.plot(np.full(len(values), x + 0.06), values, ".", color=line_colour, markersize=3, alpha=0.6)


FIGURES = (
    Figure("gain_sensitivity", over("norm.gain", "initial gain"), "gain_sensitivity"),
    Figure("fig2_rates", over("optimizer.lr", "learning rate"), "fig2_rates"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
