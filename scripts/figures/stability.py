"""Figures of section 3.1: states and gradients through up to 2,000 steps, Jacobians of a step, and the trap of zero inputs."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norm_style, norms_of

CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
WEIGHTS = {"drawn": "untrained", "trained": "trained"}
PREDICTED = {  # growth of the gradient per step from zero inputs and states, gain 1 and W_hh orthogonal
    "rnn": ("1 / sqrt(eps)", lambda eps: 1 / eps**0.5),
    "lstm": ("1 / (4 eps)", lambda eps: 1 / (4 * eps)),
    "gru": ("1 / 2 + 1 / (4 sqrt(eps))", lambda eps: 0.5 + 1 / (4 * eps**0.5)),
}


def heat_maps(
    metric: str, colours: dict[str, Any], what: str, title: str, *sentences: str
) -> Callable[[pd.DataFrame], plt.Figure]:
    """A heat map for every cell and norm, over recurrent scales and steps, untrained above trained."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        frame = frame[(frame["part"] == "trajectory") & (frame["metric"] == metric)]
        norms = norms_of(frame)
        rows = [(cell, weights) for cell in CELLS for weights in WEIGHTS]
        figure, axes = plt.subplots(len(rows), len(norms), figsize=(WIDTH, 7.4), squeeze=False)
        for (cell, weights), line in zip(rows, axes, strict=True):
            for norm, ax in zip(norms, line, strict=True):
                of = frame[(frame["cell"] == cell) & (frame["weights"] == weights) & (frame["norm.name"] == norm)]
                table = of.pivot_table(index="recurrent_scale", columns="step", values="value", aggfunc="mean")
                image = ax.imshow(table, aspect="auto", origin="lower", **colours)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.grid(False)
                if cell == "rnn" and weights == "drawn":
                    ax.set_title(label(norm).replace(" ", "\n"), fontsize=7.5)
                if (cell, weights) == rows[-1]:
                    ax.set_xticks(range(len(table.columns)), [f"{n:,}" for n in table.columns], rotation=90, fontsize=6)
                if norm == norms[0]:
                    ax.set_yticks(range(len(table.index)), [f"{s:g}" for s in table.index], fontsize=6)
                    ax.set_ylabel(f"{CELLS[cell]}\n{WEIGHTS[weights]}", fontsize=7.5)
        figure.colorbar(image, ax=axes, shrink=0.5, pad=0.01, extend="both", label=what)
        return finish(
            figure,
            frame,
            title,
            "Across: steps; up: recurrent scale, the factor of the orthogonal blocks of W_hh at the start.",
            *sentences,
            lines=False,
        )

    return draw


def draw_jacobian(frame: pd.DataFrame) -> plt.Figure:
    """The largest singular value of the Jacobian of one step, over the recurrent scale."""
    frame = frame[(frame["part"] == "trajectory") & (frame["metric"] == "jacobian/largest")]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5), sharey=True, sharex=True)
    for line, (weights, words) in zip(axes, WEIGHTS.items(), strict=True):
        for ax, (cell, name) in zip(line, CELLS.items(), strict=True):
            rows = frame[(frame["cell"] == cell) & (frame["weights"] == weights)]
            for order, norm in enumerate(norms_of(rows)):
                line_colour, marker = norm_style(norm)
                of = rows[rows["norm.name"] == norm].groupby("recurrent_scale")["value"]
                mean = np.exp(of.apply(lambda v: np.log(v).mean()))
                look: dict[str, Any] = {
                    "marker": marker,
                    "markersize": 8 - 0.6 * order,
                    "markerfacecolor": "none",
                    "linewidth": 1,
                }
                ax.plot(mean.index, mean, color=line_colour, label=label(norm), **look)
            ax.axhline(1, color="black", linewidth=0.8, linestyle=":")
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_title(f"{name}, {words}")
            scales = sorted(frame["recurrent_scale"].unique())
            ax.set_xticks(scales, [f"{s:g}" for s in scales])
    for ax in axes[1]:
        ax.set_xlabel("recurrent scale")
        ax.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        ax.yaxis.set_minor_formatter(plt.NullFormatter())
    for ax in axes[:, 0]:
        ax.set_ylabel("largest singular value")
    return finish(
        figure,
        frame,
        "Jacobian of one step: its largest singular value over the recurrent scale",
        "d states / d states after 50 steps, all eight cases together; geometric mean of five draws. Dotted: 1. Where W_hh h "
        "is normalised by itself (LSTM, GRU), the recurrent scale has no effect before training.",
        lines=False,
    )


def draw_zero_input(frame: pd.DataFrame) -> plt.Figure:
    """Growth of the gradient through steps of zero input from a zero state; a row for each eps."""
    frame = frame[frame["part"] == "zero input"]
    every = sorted(frame["eps"].unique(), reverse=True)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.6), sharey=True)
    shades = dict(zip(every, (0.35, 0.65, 1.0), strict=False))
    for ax, (cell, name) in zip(axes, CELLS.items(), strict=True):
        rows = frame[frame["cell"] == cell]
        for order, norm in enumerate(norms_of(rows)):
            line_colour, marker = norm_style(norm)
            for eps in every:
                mean = rows[(rows["norm.name"] == norm) & (rows["eps"] == eps)].groupby("step")["value"].mean()
                named = label(norm) if eps == every[-1] else None
                look: dict[str, Any] = {
                    "marker": marker,
                    "markersize": 8 - 0.6 * order,
                    "markerfacecolor": "none",
                    "linewidth": 1,
                }
                ax.plot(mean.index, mean, color=line_colour, alpha=shades.get(eps, 1.0), label=named, **look)
        words, factor = PREDICTED[cell]
        steps = np.array(sorted(rows["step"].unique()))
        for eps in every:
            named = "predicted" if eps == every[0] else None
            ax.plot(steps, steps * np.log10(factor(eps)), color="black", linewidth=0.9, linestyle=":", label=named)
            end = steps[-1], steps[-1] * np.log10(factor(eps))
            ax.annotate(f"eps = {eps:g}", end, xytext=(0, 3), textcoords="offset points", ha="right", fontsize=6.5)
        ax.axhline(38, color="#b00020", linewidth=0.8)
        ax.set(xlabel="steps", title=f"{name}: {words} a step")
        ax.set_xticks(steps)
    axes[0].set_ylabel("log10 growth of the gradient")
    axes[0].text(1, 37.3, "float32 overflows", color="#b00020", fontsize=6.5, va="top")
    return finish(
        figure,
        frame,
        "The trap of zero inputs: from a zero state, a norm divides by sqrt(eps) alone",
        "Gradient back through steps of zero input, mean of five draws; faint to full: eps from large to small. Dotted: "
        "predicted for layer norm with gain 1. Batch norm's gain of 0.1 divides it by 10 at each norm on the way. Without a "
        "norm, biases keep the state away from 0 and nothing is divided. Remedies: lengths= for padding, learned initial "
        "states, a larger eps.",
        lines=False,
    )


FIGURES = (
    Figure(
        "stability_gradient",
        heat_maps(
            "gradient/log10",
            {"cmap": "RdBu_r", "vmin": -10, "vmax": 10},
            "log10 growth of the gradient",
            "The gradient back through 1 to 2,000 steps",
            "White: the gradient keeps its size; red: it explodes; blue: it vanishes; mean of five draws of weights and inputs.",
        ),
        "stability",
    ),
    Figure(
        "stability_state",
        heat_maps(
            "state/log10",
            {"cmap": "viridis", "vmin": -1.4, "vmax": 0.4},
            "log10 of the root mean square",
            "The size of the states after 1 to 2,000 steps",
            "States start at 0.1 (-1) and are h, and for LSTM h and c; mean of five draws of weights and inputs.",
        ),
        "stability",
    ),
    Figure("stability_jacobian", draw_jacobian, "stability"),
    Figure("stability_zero_input", draw_zero_input, "stability"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
