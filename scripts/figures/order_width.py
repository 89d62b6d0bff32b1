"""Extension of Figure 1: order embeddings by width and by learning rate, with layer normalisation and without."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish


def by(column: str, name: str, title: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """A panel for each value of `column`: validation recalls, summed, against updates."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        values = sorted(frame[column].unique())
        figure, axes = plt.subplots(1, len(values), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
        for ax, value in zip(axes[0], values, strict=True):
            arms(ax, frame[frame[column] == value], "valid/image_recall_sum", "step")
            ax.set(xlabel="update", title=f"{name} {value:g}")
        axes[0, 0].set_ylabel("image retrieval,\nR@1 + R@5 + R@10 (%)")
        return finish(figure, frame, f"Order embeddings on validation, by {title}", "The paper has no such figure.")

    return draw


FIGURES = (
    Figure("order_width", by("task.hidden_size", "units:", "width"), "order_width"),
    Figure("order_rates", by("optimizer.lr", "learning rate", "learning rate, 256 units"), "order_rates"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
