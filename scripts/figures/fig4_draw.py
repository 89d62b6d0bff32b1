"""Figure 4: DRAW on binarised MNIST, test bound against epochs, beside the paper's curves (paper section 6.4); and its starts."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, norms_of, paper_curve

TRAINING_DIGITS = 50_000
PAPER = {"none": "Baseline", "wn": "WN", "ln": "LN"}
PAPER_EPOCHS = 100  # that Figure 4 shows
STARTS = {"wide": "our start", "uniform": "our start without its biases", "released": "start of public code"}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Our bound over epochs and over processor time, and the paper's bound over epochs, with the limits of its own figure."""
    frame = with_epochs(frame)
    figure, (epochs, seconds, paper) = plt.subplots(1, 3, figsize=(WIDTH, 3.8), width_ratios=(1.2, 1, 1))
    arms(epochs, frame, "test/bound", "epochs")
    arms(seconds, frame.assign(minutes=frame["cpu_seconds"] / 60), "test/bound", "minutes")
    for ax in (epochs, seconds):
        limits(ax, frame)
        ax.set(ylabel="test variational bound (nats)", title="Ours")
    epochs.set_xlabel("epoch")
    seconds.set_xlabel("processor time (minutes)")
    for norm, curve in PAPER.items():
        paper_curve(paper, "", curve, norm, "Figure 4")
    paper.set(xlabel="epoch", ylabel="test variational bound (nats)", xlim=(0, PAPER_EPOCHS), ylim=(80, 100), title="Paper")
    return finish(
        figure,
        frame,
        "Figure 4: DRAW on binarised MNIST" + ", each norm at its own learning rate" * (not one_rate(frame)),
        f"{sizes(frame)}; the paper: 64, 256, and 200 epochs, of which its figure shows {PAPER_EPOCHS}.",
        f"{rates(frame)}.",
    )


def draw_starts(frame: pd.DataFrame) -> plt.Figure:
    """A panel for each start."""
    frame = with_epochs(frame)
    starts = [start for start in STARTS if start in set(frame["task.start"])]
    figure, axes = plt.subplots(1, len(starts), figsize=(WIDTH, 3.4), sharey=True, squeeze=False)
    for ax, start in zip(axes[0], starts, strict=True):
        arms(ax, frame[frame["task.start"] == start], "test/bound", "epochs")
        limits(ax, frame)
        ax.set(xlabel="epoch", title=f"{STARTS[start]} ({start})")
    axes[0, 0].set_ylabel("test variational bound (nats)")
    return finish(
        figure,
        frame,
        "DRAW from two starts: how much of the lead is repair",
        "The paper has no such figure, and does not say how it starts.",
        f"{sizes(frame)}.",
        f"{rates(frame)}.",
    )


def with_epochs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(epochs=frame["step"] / (TRAINING_DIGITS // frame["batch_size"]))


def limits(ax: plt.Axes, frame: pd.DataFrame) -> None:
    """Leave out the descent of the first tenth of the run, which would flatten the rest."""
    bound = frame[frame["metric"] == "test/bound"]
    late = bound[bound["step"] >= bound["step"].max() / 10]["value"]
    ax.set_ylim(late.min() - 0.05 * (late.max() - late.min()), late.max())


def sizes(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return f"{first['task.glimpses']:g} glimpses, {first['task.hidden_size']:g} units, {frame['epochs'].max():.3g} epochs"


def one_rate(frame: pd.DataFrame) -> bool:
    return frame["optimizer.lr"].nunique() == 1


def rates(frame: pd.DataFrame) -> str:
    """The learning rate of all norms, or each one's own."""
    of = frame.groupby("norm.name")["optimizer.lr"].first()
    if one_rate(frame):
        return f"Learning rate {of.iloc[0]:g} for all"
    return "Learning rates: " + ", ".join(f"{label(norm)} {of[norm]:g}" for norm in norms_of(frame))


FIGURES = (
    Figure("fig4_draw", draw, "fig4"),
    Figure("fig4_start", draw_starts, "fig4_start"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
