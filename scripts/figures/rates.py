"""Extension: is layer normalisation's lead only robustness to the learning rate? By width: speed, leads, budget of trials."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norms_of
from lnexp.evidence.settings import best_of, final_values, lines, of_norm
from lnexp.evidence.stats import interval
from lnexp.evidence.tuning import expected_best

WIDTHS = "task.hidden_size"


def updates_to(frame: pd.DataFrame, metric: str, better: str, level: float) -> pd.DataFrame:
    """One row per run: the first evaluated update at which it is at `level` or better; NaN where it never is."""
    rows = frame[(frame["metric"] == metric) & (frame["step"] > 0)]
    reached = rows[rows["value"] <= level] if better == "lower" else rows[rows["value"] >= level]
    runs = frame.drop_duplicates("id").set_index("id")
    first = reached.groupby("id")["step"].min().reindex(runs.index).astype(float)
    return runs[["norm.name", WIDTHS, "optimizer.lr", "seed"]].assign(value=first)


def level_of(values: pd.DataFrame, better: str) -> float:
    """The worst final value of any norm and seed, each norm at the rate that is best for it in mean: all norms reach it."""
    sign = 1 if better == "lower" else -1
    each = (sign * values.set_index(["norm.name", "optimizer.lr"])["value"]).groupby(level=[0, 1]).agg(["mean", "max"])
    return sign * float(each.loc[each.groupby(level=0)["mean"].idxmin(), "max"].max())


def trials(values: pd.DataFrame, better: str) -> pd.DataFrame:
    """The expected best of k = 1, 2, ... rates of each seed, from one row per norm, seed and rate."""
    sign = 1 if better == "lower" else -1
    rows = []
    for (norm, seed), of in values.groupby(["norm.name", "seed"]):
        each = sign * of["value"].to_numpy(float)
        best = [sign * expected_best(each, k) for k in range(1, len(each) + 1)]
        rows += [{"norm.name": norm, "seed": seed, "trials": k, "value": value} for k, value in enumerate(best, 1)]
    return pd.DataFrame(rows)


def leads(ax: plt.Axes, values: pd.DataFrame, better: str) -> None:
    """The lead of layer normalisation over none at each equal rate, and each at its own best rate, by seed."""
    table = values.pivot_table(index="seed", columns=["norm.name", "optimizer.lr"], values="value")
    if not {"ln", "none"} <= set(values["norm.name"]):
        return
    sign = 1 if better == "higher" else -1
    rates = sorted(values["optimizer.lr"].unique())
    each = [sign * (table["ln"][rate] - table["none"][rate]) for rate in rates]
    best = best_of(values, "optimizer.lr", better).pivot_table(index="seed", columns="norm.name", values="value")
    each.append(sign * (best["ln"] - best["none"]))
    for k, lead in enumerate(v.dropna().to_numpy() for v in each):
        low, high = interval(lead) if len(lead) > 1 else (np.nan, np.nan)
        colour = "#d55e00" if k == len(rates) else "#0072b2"
        ax.plot([k, k], [low, high], color=colour)
        ax.plot(k, lead.mean(), "^", color=colour, markersize=5)
        ax.plot([k] * len(lead), lead, ".", color=colour, alpha=0.5, markersize=3)
    ax.axhline(0, color="black", linewidth=0.7)
    ax.set_xticks(range(len(each)), [*(f"{rate:g}" for rate in rates), "best"], rotation=45)


def rate_width(metric: str, better: str, axis: str, title: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """A column for each width; rows: updates to a fixed level, lead of layer normalisation, expected best of k trials."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        widths = sorted(frame[WIDTHS].unique())
        figure, axes = plt.subplots(3, len(widths), figsize=(WIDTH, 7.2), sharey="row", squeeze=False)
        final = final_values(frame, metric, ["norm.name", WIDTHS, "optimizer.lr"], better)
        for column, width in enumerate(widths):
            at = final[final[WIDTHS] == width]
            level = level_of(at, better)
            speed = updates_to(frame[frame[WIDTHS] == width], metric, better, level)
            whole = speed.groupby(["norm.name", "optimizer.lr"])["value"].transform(lambda v: v.notna().all())
            lines(axes[0, column], speed[whole], "optimizer.lr", "norm.name", of_norm, norms_of(speed))
            axes[0, column].set(title=f"{width} units, level {level:.3g}", xlabel="learning rate")
            leads(axes[1, column], at.drop(columns=WIDTHS), better)
            axes[1, column].set(xlabel="learning rate of both")
            lines(axes[2, column], trials(at, better), "trials", "norm.name", of_norm, norms_of(at), log=False)
            axes[2, column].set(xlabel="trials")
        axes[0, 0].set(ylabel="updates to the level")
        axes[1, 0].set(ylabel=f"lead of LN over none,\n{axis}")
        axes[2, 0].set(ylabel=f"expected best,\n{axis}")
        what = (
            "Mean over n seeds with its 95 % t interval.",
            "Top: first evaluation at the level, the worst seed's final value of the worst norm, each norm at its best rate; a "
            "point is left out where a seed does not reach it. Middle: both at one rate, and each at its best (last). Bottom: "
            "rates drawn without replacement.",
        )
        return finish(figure, frame, title, *what, lines=False)

    return draw


FIGURES = (
    Figure(
        "rate_width_permuted_mnist",
        rate_width("valid/accuracy", "higher", "validation accuracy", "Rates and widths: permuted MNIST"),
        "rate_width_permuted_mnist",
    ),
    Figure(
        "rate_width_reader",
        rate_width("valid/error", "lower", "validation error", "Rates and widths: question answering"),
        "rate_width_reader",
    ),
    Figure(
        "rate_width_order",
        rate_width("valid/image_recall_sum", "higher", "R@1 + R@5 + R@10 (%)", "Rates and widths: order embeddings"),
        "rate_width_order",
    ),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
