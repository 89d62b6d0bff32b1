"""Figure 6: permutation-invariant MNIST, training NLL and test error at batch sizes 128 and 4 (paper section 6.6)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, paper_curve

TRAINING_DIGITS = 55_000
PAPER_EPOCHS = 65
PANELS = (("train/nll", "training NLL (nats)", "train"), ("test/error", "test error", "err"))
PAPER = {"none": "Baseline", "bn": "BN", "ln": "LN"}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The paper's four panels; its curves dashed beside ours, over the epochs that ours have."""
    frame = frame.assign(epochs=frame["step"] * frame["batch_size"] / TRAINING_DIGITS)
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.2))
    budgets = []
    for column, batch in enumerate((128, 4)):
        ours = frame[frame["batch_size"] == batch]
        end = ours["epochs"].max() if len(ours) else PAPER_EPOCHS
        budgets.append(f"{end:.3g} (batch {batch})")
        for row, (metric, name, panel) in enumerate(PANELS):
            ax, log = axes[row, column], metric == "train/nll"
            arms(ax, ours, metric, "epochs", log)
            for norm, curve in PAPER.items():
                # The paper's first point ends epoch 1.
                paper_curve(ax, f"bz{batch}_{panel}", curve, norm, "Figure 6", shift=1, until=end + 0.1)
            ax.set(xlabel="epoch", ylabel=name, title=f"batch size {batch}" if row == 0 else None)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(
        figure,
        frame,
        "Figure 6: permutation-invariant MNIST",
        f"Our runs end after {' and '.join(budgets)} of the paper's {PAPER_EPOCHS} epochs; its curves are cut there.",
        f"Learning rate {rates(frame)}.",
    )


def rates(frame: pd.DataFrame) -> str:
    """The learning rate of each batch size."""
    of_batch = frame.groupby("batch_size")["optimizer.lr"].first()
    return ", ".join(f"{rate:g} (batch {batch})" for batch, rate in of_batch.iloc[::-1].items())


FIGURES = (Figure("fig6_mnist", draw, "fig6"), Figure("fig6_full", draw, "fig6_full"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
