"""Extension: permuted MNIST, validation accuracy against updates and against training time (after Cooijmans et al. 2016)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, colour, finish

PUBLISHED = {"none": ("LSTM", 0.902), "bn": ("BN-LSTM", 0.954)}  # Cooijmans et al. 2016, Table 1: test accuracy, 784 steps
BATCHES = (100, 16, 4)


def draw(frame: pd.DataFrame) -> plt.Figure:
    """One column per batch size; updates above, seconds of training below; the published accuracies as dotted lines."""
    figure, axes = plt.subplots(2, len(BATCHES), figsize=(WIDTH, 5.4), sharey="row")
    for column, batch in enumerate(BATCHES):
        ours = frame[frame["batch_size"] == batch]
        for row, (x, axis) in enumerate((("step", "update"), ("seconds", "seconds of training"))):
            ax = axes[row, column]
            arms(ax, ours, "valid/accuracy", x)
            for norm, (name, accuracy) in PUBLISHED.items():
                ax.axhline(accuracy, color=colour(norm), linewidth=0.9, linestyle=":")
                place = {"transform": ax.get_yaxis_transform(), "fontsize": 6, "va": "bottom", "color": colour(norm)}
                ax.text(0.01, accuracy, f"{name}, Cooijmans et al.", **place)
            ax.set(xlabel=axis, title=f"batch size {batch}" if row == 0 else None)
            ax.set_ylim(0.15, 1.03)
    for ax in axes[:, 0]:
        ax.set_ylabel("validation accuracy")
    return finish(
        figure,
        frame,
        "Permuted MNIST",
        "Dotted: test accuracies reported by Cooijmans et al. (2016) after 200 epochs of 784 steps.",
        f"Our runs have {28**2 // frame['task.pool'].iloc[0] ** 2} steps and end after {updates(frame)}.",
    )


def updates(frame: pd.DataFrame) -> str:
    """The number of updates at each batch size."""
    of_batch = frame.groupby("batch_size")["step"].max()
    return ", ".join(f"{of_batch[batch]:,} updates (batch {batch})" for batch in BATCHES if batch in of_batch)


FIGURES = (Figure("permuted_mnist", draw, "permuted_mnist"),)

if __name__ == "__main__":
    main(FIGURES, __doc__)
