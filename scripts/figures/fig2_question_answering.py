"""Figure 2: the attentive reader, validation error against updates, beside the paper's own curves (paper section 6.2)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, norms_of, paper_curve

PAPER = {"none": "LSTM", "bn": "BN-LSTM", "bn_everywhere": "BN-everywhere", "ln": "LN-LSTM"}
TOO_CLOSE = 0.025  # errors of two baselines that share one label


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Our error with the baselines as lines, our NLL, and the paper's error over its 800,000 updates.

    No interval is shaded: one seed that stays on the plateau would make it as wide as the panel. The thin lines show all seeds.
    """
    figure, (error, nll, paper) = plt.subplots(1, 3, figsize=(WIDTH, 4), width_ratios=(1.2, 1, 1))
    arms(error, frame, "valid/error", "step", shade=False)
    error.set(xlabel="update", ylabel="validation error", title="Ours")
    draw_baselines(error, frame)
    arms(nll, frame, "valid/nll", "step", shade=False)
    nll.set(xlabel="update", ylabel="validation NLL (nats)", title="Ours")
    for norm, curve in PAPER.items():
        paper_curve(paper, "", curve, norm, "Figure 2")
    paper.set(xlabel="update (thousands)", ylabel="validation error", ylim=(0.4, 1), title="Paper, CNN questions")
    return finish(
        figure,
        frame,
        "Figure 2: attentive reader" + ", each norm at its own learning rate" * (frame["optimizer.lr"].nunique() > 1),
        "Dotted: rules without training, on the same questions.",
        f"Our runs end after {frame['step'].max():,} updates, the paper's after 800,000.",
        f"{rates(frame)}.",
        shaded=False,
    )


def rates(frame: pd.DataFrame) -> str:
    """The learning rate of all norms, or each one's own."""
    of = frame.groupby("norm.name")["optimizer.lr"].first()
    if of.nunique() == 1:
        return f"Learning rate {of.iloc[0]:g}"
    return "Learning rates: " + ", ".join(f"{label(norm)} {of[norm]:g}" for norm in norms_of(frame))


def draw_baselines(ax: plt.Axes, frame: pd.DataFrame) -> None:
    """A dotted line for each rule's error, its name above the line; rules with nearly equal errors share one label."""
    rules = frame[frame["metric"].str.startswith("baselines/")].groupby("metric")["value"].first().sort_values()
    groups: list[dict[str, float]] = []
    for rule, value in rules.items():
        ax.axhline(value, color="black", linewidth=0.6, linestyle=":", zorder=1)
        if not groups or value - min(groups[-1].values()) >= TOO_CLOSE:
            groups.append({})
        groups[-1][str(rule).removeprefix("baselines/").replace("_", " ")] = float(value)
    for group in groups:
        names, place = " / ".join(group), ax.get_yaxis_transform()
        ax.text(1, max(group.values()), names, transform=place, fontsize=6, va="bottom", ha="right")
    ax.set_ylim(None, max(ax.get_ylim()[1], rules.max() + TOO_CLOSE) if len(rules) else None)


FIGURES = tuple(
    Figure(name, draw, name)
    for name in (
        "fig2",
        "fig2_tuned",
        "fig2_confirm",
        "fig2_tuned_confirm",
        "reader_bn_settings",
        "reader_wide",
        "reader_one_way",
    )
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
