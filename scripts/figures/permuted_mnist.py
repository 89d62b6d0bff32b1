"""Extension: permuted MNIST, validation accuracy against updates and against training time (after Cooijmans et al. 2016)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import COLOURS, Figure, arms, main, provenance

PUBLISHED = {"none": 0.902, "bn": 0.954}  # Cooijmans et al. 2016, Table 1: test accuracy after 200 epochs at 784 steps
BATCHES = (100, 16, 4)


def draw(frame: pd.DataFrame) -> plt.Figure:
    """One column a batch size; updates above, seconds of training below; the published accuracies as dotted lines."""
    figure, axes = plt.subplots(2, len(BATCHES), figsize=(10, 6), sharey="row")
    for column, batch in enumerate(BATCHES):
        ours = frame[frame["batch_size"] == batch]
        for row, (x, label) in enumerate((("step", "update"), ("seconds", "seconds of training"))):
            ax = axes[row, column]
            arms(ax, ours, "valid/accuracy", x)
            for norm, accuracy in PUBLISHED.items():
                ax.axhline(accuracy, color=COLOURS[norm], linewidth=0.8, linestyle=":")
            ax.set(xlabel=label, title=f"batch size {batch}" if row == 0 else None)
            ax.set_ylim(0, 1)
        axes[0, column].legend(loc="lower right")
    for ax in axes[:, 0]:
        ax.set_ylabel("validation accuracy")
    figure.suptitle(
        f"Permuted MNIST ({provenance(frame)}; dotted: test accuracies that Cooijmans et al. report for the plain\n"
        "and the batch-normalised LSTM after 200 epochs of the full 784 steps)",
        fontsize=9,
    )
    return figure


FIGURES = (Figure("permuted_mnist", draw, "permuted_mnist"),)

if __name__ == "__main__":
    main(FIGURES, __doc__)
