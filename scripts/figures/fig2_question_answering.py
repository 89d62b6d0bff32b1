"""Figure 2: the attentive reader, validation error against updates, the paper's own curves beside ours (paper section 6.2)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import NAMES, Figure, arms, main, paper_curve, provenance

PAPER = {"none": "LSTM", "bn": "BN-LSTM", "bn_everywhere": "BN-everywhere", "ln": "LN-LSTM"}
APART = 0.035  # of the axis's height, between two labels


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Our error with the simple baselines as lines, our NLL, and the paper's error over its 800,000 updates."""
    figure, (error, nll, paper) = plt.subplots(1, 3, figsize=(11, 3.8), width_ratios=(1.25, 1, 1))
    arms(error, frame, "valid/error", "step")
    error.set(xlabel="update", ylabel="validation error", ylim=(0, 1), title="ours")
    draw_baselines(error, frame)
    arms(nll, frame, "valid/nll", "step")
    nll.set(xlabel="update", ylabel="validation NLL (nats)", title="ours")
    nll.legend(loc="upper right")
    for norm, curve in PAPER.items():
        paper_curve(paper, "", curve, norm, "Figure 2", scale=1000)
    paper.set(xlabel="update", ylabel="validation error", ylim=(0, 1), title="the paper's, CNN questions")
    paper.legend(loc="lower left")
    figure.suptitle(
        f"Attentive reader ({provenance(frame)}; dotted: rules that do not learn, on the same questions)\n{rates(frame)}",
        fontsize=9,
    )
    return figure


def rates(frame: pd.DataFrame) -> str:
    """The learning rate of all norms, or each one's own."""
    of = frame.groupby("norm.name")["optimizer.lr"].first()
    if of.nunique() == 1:
        return f"learning rate {of.iloc[0]:g}"
    return "learning rates " + ", ".join(f"{NAMES[norm]} {of[norm]:g}" for norm in NAMES if norm in of)


def draw_baselines(ax: plt.Axes, frame: pd.DataFrame) -> None:
    """A dotted line for each rule's error, its name at the right edge, names moved apart where lines lie close together."""
    rules = frame[frame["metric"].str.startswith("baselines/")].groupby("metric")["value"].first().sort_values()
    lowest = -1.0
    for rule, value in rules.items():
        ax.axhline(value, color="black", linewidth=0.6, linestyle=":")
        lowest = max(value, lowest + APART)
        name = str(rule).removeprefix("baselines/").replace("_", ", ")
        ax.text(1.01, lowest, name, transform=ax.get_yaxis_transform(), fontsize=6, va="center")


FIGURES = (Figure("fig2", draw, "fig2"), Figure("fig2_tuned", draw, "fig2_tuned"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
