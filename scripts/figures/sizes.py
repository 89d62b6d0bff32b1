"""Extensions: final values against batch size, initial scale, sequence length and number of processes."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish, norms_of
from lnexp.evidence.settings import MEANING, best_of, final_values, lines, of_norm

TUNED = "Each norm at the best of its rates, seed by seed."
ONE_RATE = "One rate for all norms."


def over(
    x: str, name: str, metric: str, better: str, axis: str, title: str, tuned: bool = True
) -> Callable[[pd.DataFrame], plt.Figure]:
    """A line for each norm against a setting; with `tuned`, at the best rate of each seed."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        values = final_values(frame, metric, ["norm.name", x, "optimizer.lr"], better)
        if tuned:
            values = best_of(values, "optimizer.lr", better)
        figure, ax = plt.subplots(figsize=(WIDTH * 0.7, 3.4))
        lines(ax, values, x, "norm.name", of_norm, norms_of(values))
        ax.set(xlabel=name, ylabel=axis)
        return finish(figure, frame, title, MEANING, TUNED if tuned else ONE_RATE, lines=False)

    return draw


def longer(frame: pd.DataFrame) -> plt.Figure:
    """Test accuracy of the last digit against the length of a sequence, in multiples of that of training."""
    rows = frame[frame["metric"].str.startswith("longer/accuracy_")]
    values = rows[["norm.name", "seed", "value"]].assign(factor=rows["metric"].str.rsplit("_").str[-1].astype(int))
    figure, ax = plt.subplots(figsize=(WIDTH * 0.7, 3.4))
    lines(ax, values, "factor", "norm.name", of_norm, norms_of(values))
    ax.set(xlabel="length of test sequences / length in training", ylabel="test accuracy, last digit")
    what = "Marker: mean over n seeds, with its 95 % t interval.", ONE_RATE
    return finish(figure, frame, "Permuted MNIST: sequences longer than in training", *what, lines=False)


ERROR, ACCURACY = ("valid/error", "lower", "validation error"), ("valid/accuracy", "higher", "validation accuracy")
BATCH, SCALE = ("batch_size", "cases in a batch"), ("task.init_scale", "factor of the initial weights")
FIGURES = (
    Figure(
        "batch_size_mnist",
        over(*BATCH, *ERROR, "MNIST by batch size, one pass over 20,000 digits"),
        "batch_size_mnist",
        more=("mnist_online",),
    ),
    Figure(
        "batch_size_permuted_mnist",
        over(*BATCH, *ACCURACY, "Permuted MNIST by batch size, one pass over 50,000 digits"),
        "batch_size_permuted_mnist",
        more=("permuted_mnist_online",),
    ),
    Figure(
        "initial_scale_mnist",
        over(*SCALE, *ERROR, "MNIST by initial scale", tuned=False),
        "initial_scale_mnist",
    ),
    Figure(
        "initial_scale_permuted_mnist",
        over(*SCALE, *ACCURACY, "Permuted MNIST by initial scale", tuned=False),
        "initial_scale_permuted_mnist",
    ),
    Figure("longer_digits", longer, "longer_digits"),
    Figure(
        "distributed_mnist",
        over("local_batches", "processes that share a batch of 16", *ERROR, "MNIST with local batch statistics"),
        "distributed_mnist",
    ),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
