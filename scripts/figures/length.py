"""Figure of section 3.1: an LSTM on sequences longer than any in training, two problems, every norm."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norm_style, norms_of

PROBLEMS = {  # problem -> title, axis, error without learning
    "adding": ("adding two marked numbers", "mean squared error", 2 / 3),
    "copying": ("copying three symbols of four", "error rate", 3 / 4),
}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The error over the length of the test sequences, a panel for each problem; each seed thin, the mean bold."""
    frame = frame[frame["metric"] == "test/error"]
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8))
    for ax, (problem, (title, axis, chance)) in zip(axes, PROBLEMS.items(), strict=True):
        rows = frame[frame["problem"] == problem]
        for order, norm in enumerate(norms_of(rows)):
            line_colour, marker = norm_style(norm)
            of = rows[rows["norm.name"] == norm].pivot_table(index="length", columns="seed", values="value")
            ax.plot(of.index, of, color=line_colour, linewidth=0.5, alpha=0.35)
            look: dict[str, Any] = {"marker": marker, "markersize": 8 - 0.6 * order, "markerfacecolor": "none", "linewidth": 1.5}
            ax.plot(of.index, of.mean(axis=1), color=line_colour, label=f"{label(norm)} (n={of.shape[1]})", **look)
        ax.axhline(chance, color="black", linewidth=0.9, linestyle=":")
        ax.set_xscale("log", base=2)
        lengths = sorted(rows["length"].unique())
        ax.set_xticks(lengths, [f"{n:g}" for n in lengths])
        ax.set(xlabel="steps of the test sequences", ylabel=axis, title=title)
    axes[0].set(yscale="log")
    axes[1].set(ylim=(-0.02, 0.8))
    return finish(
        figure,
        frame,
        "Beyond the lengths of training: an LSTM trained on 16 to 32 steps",
        "Dotted: without learning. Batch norm uses the statistics of step 32 at all later ones. Each norm at the best of three "
        "learning rates, chosen on two other seeds.",
        shaded=False,
    )


FIGURES = (Figure("length", draw, "length"),)

if __name__ == "__main__":
    main(FIGURES, __doc__)
