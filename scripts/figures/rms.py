"""Extension: RMS and layer normalisation in recurrent nets against the rate, and what centring would remove."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, norms_of
from lnexp.evidence.settings import MEANING, final_values, lines, of_norm

SHARE = "Right: the share of |W_hh h|² that lies along the vector of ones, which centring removes, at the middle rate."


def equivalence(metric: str, better: str, axis: str, title: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """Left: final values against the rate; right: the share over updates at the middle rate."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
        values = final_values(frame, metric, ["norm.name", "optimizer.lr"], better)
        lines(left, values, "optimizer.lr", "norm.name", of_norm, norms_of(values))
        left.set(xlabel="learning rate", ylabel=axis)
        rates = sorted(frame["optimizer.lr"].unique())
        arms(right, frame[frame["optimizer.lr"] == rates[len(rates) // 2]], "recurrent/ones_share", "step", log=True)
        right.set(xlabel="update", ylabel="share of W_hh h along ones")
        right.set_title(f"learning rate {rates[len(rates) // 2]:g}")
        for line in right.lines:
            line.set_label("_")  # the legend is the left panel's
        return finish(figure, frame, title, MEANING, SHARE, lines=False)

    return draw


FIGURES = (
    Figure(
        "rms_permuted_mnist",
        equivalence("valid/accuracy", "higher", "validation accuracy", "RMS against LN: permuted MNIST"),
        "rms_permuted_mnist",
    ),
    Figure(
        "rms_reader",
        equivalence("valid/error", "lower", "validation error", "RMS against LN: question answering"),
        "rms_reader",
    ),
    Figure(
        "rms_order",
        equivalence("valid/image_recall_sum", "higher", "R@1 + R@5 + R@10 (%)", "RMS against LN: order embeddings"),
        "rms_order",
    ),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
