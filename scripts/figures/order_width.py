"""Extension of Figure 1: order embeddings by width and by learning rate, with layer normalisation and without."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import Figure, arms, main, provenance


def by(column: str, title: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """A panel for each value of `column`: validation recalls, summed, against updates."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        values = sorted(frame[column].unique())
        figure, axes = plt.subplots(1, len(values), figsize=(3.2 * len(values), 3.2), sharey=True, squeeze=False)
        for ax, value in zip(axes[0], values, strict=True):
            arms(ax, frame[frame[column] == value], "valid/image_recall_sum", "step")
            ax.set(xlabel="update", title=f"{title} {value:g}")
            ax.legend(loc="lower right")
        axes[0, 0].set_ylabel("image retrieval, R@1 + R@5 + R@10 (%)")
        figure.suptitle(f"Order embeddings, validation ({provenance(frame)})", fontsize=9)
        return figure

    return draw


FIGURES = (
    Figure("order_width", by("task.hidden_size", "units:"), "order_width"),
    Figure("order_rates", by("optimizer.lr", "learning rate"), "order_rates"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
