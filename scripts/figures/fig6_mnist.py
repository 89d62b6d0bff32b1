"""Figure 6: permutation-invariant MNIST, training NLL and test error at batch sizes 128 and 4 (paper section 6.6)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import Figure, arms, main, paper_curve, provenance

TRAINING_DIGITS = 55_000
PANELS = (("train/nll", "training NLL (nats)", "train"), ("test/error", "test error", "err"))
PAPER = {"none": "Baseline", "bn": "BN", "ln": "LN"}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The paper's four panels; its curves dashed beside ours, over the epochs that ours have."""
    frame = frame.assign(epochs=frame["step"] * frame["batch_size"] / TRAINING_DIGITS)
    figure, axes = plt.subplots(2, 2, figsize=(8, 6.6))
    for column, batch in enumerate((128, 4)):
        ours = frame[frame["batch_size"] == batch]
        end = ours["epochs"].max() if len(ours) else 65
        for row, (metric, label, panel) in enumerate(PANELS):
            ax, log = axes[row, column], metric == "train/nll"
            arms(ax, ours, metric, "epochs", log)
            for norm, curve in PAPER.items():
                paper_curve(ax, f"bz{batch}_{panel}", curve, norm, "Figure 6", shift=1)  # its first point ends epoch 1
            ax.set_xlim(0.9, end + 0.1)
            shown = [y for line in ax.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True) if x <= end + 0.1]
            low, high = min(shown), max(shown)
            ax.set_ylim((low * 0.7, high * 1.4) if log else (max(0, low - 0.002), high + 0.002))
            ax.set(xlabel="epoch", ylabel=label, title=f"batch size {batch}" if row == 0 else None)
        axes[1, column].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    figure.suptitle(f"Permutation-invariant MNIST ({provenance(frame)}; dashed: the paper's own curves)", fontsize=9)
    return figure


FIGURES = (Figure("fig6_mnist", draw, "fig6"),)

if __name__ == "__main__":
    main(FIGURES, __doc__)
