"""Extension: final values of layer-normalised cells by the placement of the norm, against the learning rate."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, finish
from lnexp.evidence.settings import MEANING, best_of, final_values, lines, of_list
from lnexp.evidence.stats import interval

NAMES = {
    "all_gates": "all gates together, and the cell (the paper)",
    "per_gate": "each gate, and the cell",
    "gates_only": "all gates together",
    "cell_only": "the cell",
    "carried_cell": "all gates, and the cell that is carried on",
    "bias_inside": "as the paper, bias inside",
}
SHORT = {name: name.replace("_", " ") for name in NAMES}


def placements(metric: str, better: str, axis: str, title: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """Left: a line for each placement against the rate; right: each placement at its best rate, seed by seed."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        values = final_values(frame, metric, ["task.placement", "optimizer.lr"], better)
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(3, 2))
        style = of_list(NAMES)
        lines(left, values, "optimizer.lr", "task.placement", style, list(NAMES))
        left.set(xlabel="learning rate", ylabel=axis)
        best = best_of(values, "optimizer.lr", better)
        shown = [name for name in NAMES if name in set(best["task.placement"])]
        for k, name in enumerate(shown):
            _, line_colour, marker = style(name)
            of = best[best["task.placement"] == name]["value"].to_numpy(float)
            low, high = interval(of) if len(of) > 1 else (of.mean(), of.mean())
            right.plot([low, high], [k, k], color=line_colour)
            right.plot(of, [k] * len(of), ".", color=line_colour, alpha=0.5, markersize=4)
            right.plot(of.mean(), k, color=line_colour, marker=marker, markersize=5)
        right.set_yticks(range(len(shown)), [SHORT[name] for name in shown])
        right.invert_yaxis()
        right.set(xlabel=axis, title="at the best rate of each seed")
        return finish(figure, frame, title, MEANING, "Dot: one seed.", lines=False)

    return draw


ACCURACY = "valid/accuracy", "higher", "validation accuracy"
FIGURES = (
    Figure(
        "where_permuted_mnist",
        placements(*ACCURACY, "Where in the LSTM? Permuted MNIST"),
        "where_permuted_mnist",
    ),
    Figure(
        "where_permuted_mnist_gru",
        placements(*ACCURACY, "Where in the GRU? Permuted MNIST"),
        "where_permuted_mnist_gru",
    ),
    Figure(
        "where_reader",
        placements("valid/error", "lower", "validation error", "Where in the LSTM? Question answering"),
        "where_reader",
    ),
    Figure(
        "where_order",
        placements("valid/image_recall_sum", "higher", "R@1 + R@5 + R@10 (%)", "Where in the GRU? Order embeddings"),
        "where_order",
    ),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
