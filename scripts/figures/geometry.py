"""Figures of section 5.2: the Fisher information of a normalised model, its curvature, and angles turned by updates."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norm_style, norms_of

OUTPUTS = {"bernoulli": "Bernoulli", "gaussian": "Gaussian", "softmax": "softmax"}
REFERENCE: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": ":"}


def lines(ax: plt.Axes, rows: pd.DataFrame, x: str) -> None:
    """The mean over seeds of `value` over the column x, one line for each norm; hollow markers, so that equal lines show."""
    for order, norm in enumerate(norms_of(rows)):
        line_colour, marker = norm_style(norm)
        mean = rows[rows["norm.name"] == norm].groupby(x)["value"].mean()
        look: dict[str, Any] = {"marker": marker, "markersize": 9 - 0.7 * order, "linewidth": 1}
        ax.plot(mean.index, mean, color=line_colour, markerfacecolor="none", label=label(norm), **look)


def draw_fisher(frame: pd.DataFrame) -> plt.Figure:
    """Above: the matrices of a small layer-normalised softmax model. Below: what equation (13) leaves out, against the width."""
    frame = frame[frame["part"] == "matrix"]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), height_ratios=[1.25, 1])
    small = frame[(frame["norm.name"] == "ln") & (frame["seed"] == 0) & (frame["output"] == "softmax")]
    full, block = entries(small, "full"), entries(small, "block")
    limit = np.abs(full).max()
    panels = (("full, by differentiation", full), ("equation (13)", block), ("what (13) leaves out", full - block))
    for ax, (title, matrix) in zip(axes[0], panels, strict=True):
        image = ax.imshow(matrix, cmap="RdBu_r", norm=SymLogNorm(limit / 100, vmin=-limit, vmax=limit))
        of_unit = 4  # parameters: two weights, bias, gain
        names = [f"{name}$_{unit + 1}$" for unit in range(len(matrix) // of_unit) for name in ("w", "w", "b", "g")]
        ax.set_xticks(range(len(names)), names, fontsize=6)
        ax.set_yticks(range(len(names)), names, fontsize=6)
        for edge in range(of_unit, len(matrix), of_unit):
            ax.axhline(edge - 0.5, color="black", linewidth=0.6)
            ax.axvline(edge - 0.5, color="black", linewidth=0.6)
        ax.set_title(title)
        ax.tick_params(length=0)
        ax.grid(False)
    figure.colorbar(image, ax=axes[0], shrink=0.75, pad=0.01, ticks=[-1, -0.1, 0, 0.1, 1])
    for ax, (output, name) in zip(axes[1], OUTPUTS.items(), strict=True):
        rows = frame[(frame["output"] == output) & (frame["metric"] == "fisher/left_out")]
        lines(ax, rows, "step")
        ax.set_xscale("log", base=2)
        ax.set(xlabel="units", title=name, ylim=(-0.04, 1.0))
        ax.set_xticks(sorted(rows["step"].unique()), [f"{n:g}" for n in sorted(rows["step"].unique())])
    axes[1, 0].set_ylabel("|full - (13)| / |full|")
    return finish(
        figure,
        frame,
        "Fisher information of a normalised model, and what equation (13) leaves out",
        "Above: layer norm, softmax of 3 units with 2 inputs; rows and columns are unit by unit two weights, bias and gain, "
        "on a logarithmic scale of colours. (13) differentiates each output by its own unit's weights; layer norm ties all "
        "units. Below: the share that it leaves out, in the Frobenius norm, mean of five draws. It is 0 where mu and sigma "
        "of a unit depend on that unit's weights alone.",
        lines=False,
    )


def entries(rows: pd.DataFrame, name: str) -> np.ndarray:
    """The matrix whose entries are stored as metrics "<name>/<i>:<j>"."""
    rows = rows[rows["metric"].str.startswith(f"{name}/")]
    at = rows["metric"].str.extract(r"(\d+):(\d+)").astype(int).to_numpy()
    matrix = np.zeros(at.max(axis=0) + 1)
    matrix[at[:, 0], at[:, 1]] = rows["value"]
    return matrix


def draw_curvature(frame: pd.DataFrame) -> plt.Figure:
    """Blocks of the Fisher information over the multiple of the weight vectors."""
    frame = frame[(frame["part"] == "curvature") & (frame["output"] == "softmax")]
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.3), sharey=True)
    panels = (
        ("matrix/ww", "w with w, all vectors longer"),
        ("matrix/mixed", "w with b and g, all vectors longer"),
        ("vector/ww", "w with w, this vector longer"),
    )
    for ax, (metric, title) in zip(axes, panels, strict=True):
        rows = frame[frame["metric"] == metric]
        lines(ax, rows, "step")
        x = np.array(sorted(rows["step"].unique()), float)
        ax.plot(x, 1 / x, label="1 / multiple", **REFERENCE)
        ax.plot(x, 1 / x**2, label="1 / multiple squared", **(REFERENCE | {"linestyle": (0, (4, 2))}))
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set(xlabel="multiple of the weight vector", title=title)
        ax.set_xticks(x, [f"{n:g}" for n in x])
    axes[0].set_ylabel("block, in units of that at multiple 1")
    return finish(
        figure,
        frame,
        "Curvature as weight vectors grow: the effective learning rate falls",
        "Blocks of one unit in the Fisher information of a softmax of 6 units, mean of five draws. When all weight vectors "
        "double, the block of w with itself falls to 1/4, the mixed ones to 1/2, where the output is invariant to the "
        "scale. When one vector grows alone, layer norm shares its growth among all units.",
        lines=False,
    )


def draw_gains(frame: pd.DataFrame) -> plt.Figure:
    """The metric along the gains over the scale of the inputs, a panel for each output."""
    frame = frame[frame["part"] == "gains"]
    of_bn = frame[(frame["norm.name"] == "bn") & (frame["metric"] == "gains/equation_32_leaves_out")]
    lost = of_bn.groupby("output")["value"].mean()
    omitted = ", ".join(f"{lost[output]:.0%} ({name})" for output, name in OUTPUTS.items() if output in lost)
    frame = frame[frame["metric"].str.match(r"input/[0-9.]+$")]
    frame = frame.assign(input_scale=frame["metric"].str.removeprefix("input/").astype(float))
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.2), sharey=True)
    for ax, (output, name) in zip(axes, OUTPUTS.items(), strict=True):
        rows = frame[frame["output"] == output]
        lines(ax, rows, "input_scale")
        x = np.array(sorted(rows["input_scale"].unique()))
        ax.plot(x, x**2, label="scale squared", **REFERENCE)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set(xlabel="scale of the inputs", title=name)
        ax.set_xticks(x, [f"{n:g}" for n in x])
    axes[0].set_ylabel("metric along the gains")
    return finish(
        figure,
        frame,
        "Equations (32) to (35): the metric along the gains under re-scaled inputs",
        "d' M d for a drawn direction d of the gains, in units of its value at scale 1, mean of five draws. Without gains: the "
        "step along w / |w| (35). With Bernoulli and softmax outputs the covariance changes, too, and lowers the curves that "
        f"rise. Equation (32), for batch norm, leaves out zhat_i zhat_j: {omitted} of the metric.",
        lines=False,
    )


def draw_training(frame: pd.DataFrame) -> plt.Figure:
    """Angle per update against the norm of weight vectors, in training from several multiples; and both over updates."""
    frame = frame[frame["part"] == "training"]
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.4), width_ratios=[1.25, 1, 1])
    named = {"training/angle": "angle", "training/norm": "size"}
    wide = frame[frame["metric"].isin(named)].assign(name=frame["metric"].map(named))
    keys = ["norm.name", "multiple", "seed", "step"]
    wide = wide.pivot_table(index=keys, columns="name", values="value").reset_index()
    mean = wide.groupby(["norm.name", "multiple", "step"])[["angle", "size"]].mean().reset_index()
    for order, norm in enumerate(norms_of(frame)):
        line_colour, marker = norm_style(norm)
        look: dict[str, Any] = {"color": line_colour, "marker": marker, "markerfacecolor": "none", "linewidth": 1}
        for multiple, rows in mean[mean["norm.name"] == norm].groupby("multiple"):
            named_once = label(norm) if multiple == mean["multiple"].min() else None
            axes[0].plot(rows["size"], rows["angle"], markersize=3, markevery=3, alpha=0.8, **look, label=named_once)
        for ax, column in ((axes[1], "size"), (axes[2], "angle")):
            rows = mean[(mean["norm.name"] == norm) & (mean["multiple"] == mean["multiple"].min())]
            ax.plot(rows["step"], rows[column], markersize=8 - 0.6 * order, markevery=(order % 3, 4), **look)
    x = np.array([mean["size"].min(), mean["size"].max()])
    middle = mean[(mean["multiple"] == 1.0) & (mean["norm.name"] == "ln")].iloc[0]
    axes[0].plot(x, middle["angle"] * (x / middle["size"]) ** -2, label="1 / norm squared", **REFERENCE)
    axes[0].set(xscale="log", yscale="log", xlabel="norm of a weight vector", ylabel="angle per update (radians)")
    axes[0].set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    axes[0].xaxis.set_minor_formatter(plt.NullFormatter())
    axes[1].set(xlabel="update", ylabel="norm of a weight vector")
    axes[2].set(xlabel="update", ylabel="angle per update (radians)", yscale="log")
    axes[0].set_title("six starts: weights at 1/4 to 8 times")
    axes[1].set_title("weights at 1/4 times")
    axes[2].set_title("weights at 1/4 times")
    return finish(
        figure,
        frame,
        "Implicit early stopping: the longer a weight vector, the less an update turns it",
        "A hidden layer of 32 units on 8 x 8 digits, plain gradient descent at a rate of 0.1; means over units, 20 updates, "
        "and five seeds. Where the output is invariant to the scale of the weights, gradients are orthogonal to them: "
        "weights that start short are stretched by each update until the angle is small.",
        lines=False,
    )


FIGURES = (
    Figure("geometry_fisher", draw_fisher, "geometry"),
    Figure("geometry_curvature", draw_curvature, "geometry"),
    Figure("geometry_gains", draw_gains, "geometry"),
    Figure("geometry_training", draw_training, "geometry"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
