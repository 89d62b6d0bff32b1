"""Figure 5: handwriting, negative log-likelihood against updates, and the learning rate (paper section 6.5)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, colour, finish, norm_style, norms_of, paper_curve

PAPER = {"none": "base", "ln": "LN"}
PAPER_UPDATES = 200  # the unit of the paper's axis
NLL = "NLL (nats a sequence)"
SHARES = (0.1, 0.3, 1.0)  # of the updates, after which the rate figures show the NLL


def axis(ax: plt.Axes, frame: pd.DataFrame) -> None:
    """Our test NLL, and dotted the training NLL of single logs, against the updates on a logarithmic axis."""
    arms(ax, frame, "test/nll", "step")
    train = frame[frame["metric"] == "train/nll"]
    for norm in norms_of(train):
        mean = train[train["norm.name"] == norm].groupby("step")["value"].mean()
        ax.plot(mean.index, mean, color=colour(norm), linewidth=0.8, linestyle=":", label=f"{label(norm)}, training")
    ax.set_xscale("log")
    ax.set(xlabel="update", ylabel=f"test {NLL}")


def papers(ax: plt.Axes, until: float = np.inf) -> None:
    """The paper's four curves; those of training are thin and without markers."""
    for norm, curve in PAPER.items():
        before = len(ax.lines)
        paper_curve(ax, "", f"{curve}_train", norm, "Figure 5", scale=PAPER_UPDATES, until=until)
        plt.setp(ax.lines[before:], marker="", linewidth=0.5, alpha=0.6)
        paper_curve(ax, "", f"{curve}_test", norm, "Figure 5", scale=PAPER_UPDATES, until=until)
    ax.set_xscale("log")


def draw(frame: pd.DataFrame) -> plt.Figure:
    """A panel for each learning rate of ours, and one of the paper: other sizes and lines, so never on one axis."""
    rates = sorted(frame["optimizer.lr"].unique())
    figure, axes = plt.subplots(1, len(rates) + 1, figsize=(WIDTH, 3.8))
    for ax, rate in zip(axes, rates, strict=False):
        axis(ax, frame[frame["optimizer.lr"] == rate])
        ax.set(title=f"Ours, learning rate {rate:g}")
    papers(axes[-1])
    axes[-1].set(xlabel="update", title="Paper, IAM-OnDB", ylim=(-900, 0))
    return finish(
        figure,
        frame,
        "Figure 5: handwriting",
        "Dotted: training, mean over seeds. Thin dashed: the paper's training, single minibatches.",
        f"Our runs end after {frame['step'].max():,} updates of {steps(frame)} points a line, the paper's after 190,600 of 500.",
    )


def draw_exact(frame: pd.DataFrame) -> plt.Figure:
    """The paper's own network: ours and the paper's curves on one axis, as far as ours go."""
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    axis(ax, frame)
    papers(ax, until=frame["step"].max())
    rate = frame["optimizer.lr"].iloc[0]
    return finish(
        figure,
        frame,
        "Figure 5, its first points: the paper's network and data",
        "Dotted: training. Thin dashed: the paper's training, single minibatches.",
        f"The paper gives neither its learning rate (ours: {rate:g}) nor its test lines, and runs on to 190,600 updates.",
    )


def draw_rates(frame: pd.DataFrame) -> plt.Figure:
    """A panel for each budget: the test NLL at that update against the learning rate, a line through the means of each norm."""
    test = frame[(frame["metric"] == "test/nll") & (frame["step"] > 0)]
    figure, axes = plt.subplots(1, len(SHARES), figsize=(WIDTH, 3.4), sharey=False)
    recorded = np.array(sorted(test["step"].unique()))
    for ax, share in zip(axes, SHARES, strict=True):
        step = recorded[np.abs(recorded - share * recorded.max()).argmin()]
        rows = test[test["step"] == step]
        for norm in norms_of(rows):
            line_colour, marker = norm_style(norm)
            own = rows[rows["norm.name"] == norm]
            mean = own.groupby("optimizer.lr")["value"].mean()
            ax.plot(own["optimizer.lr"], own["value"], ".", color=line_colour, markersize=3)
            ax.plot(mean.index, mean, color=line_colour, marker=marker, markersize=5, linewidth=1, label=label(norm))
        ax.set_xscale("log")
        ax.set(xlabel="learning rate", ylabel=f"test {NLL}", title=f"after {step:,} updates")
    diverged = frame[frame["status"] == "diverged"]["id"].nunique()
    return finish(
        figure,
        frame,
        "Handwriting: test NLL against the learning rate",
        "Dots: one run; markers: their mean. These seeds decide no claim.",
        f"{diverged} runs diverged and end before the last panel." * bool(diverged),
        lines=False,
    )


def steps(frame: pd.DataFrame) -> int:
    """Points of a sequence."""
    return int(frame["task.steps"].iloc[0])


FIGURES = (
    Figure("fig5", draw, "fig5"),
    Figure("fig5_iam", draw, "fig5_iam"),
    Figure("fig5_exact", draw_exact, "fig5_exact"),
    Figure("fig5_rates", draw_rates, "fig5_rates"),
    Figure("fig5_iam_rates", draw_rates, "fig5_iam_rates"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
