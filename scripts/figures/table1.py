"""Table 1: invariance of layers and recurrent cells under re-scaling and re-centring (paper section 5.1), for every norm."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main, markdown, paper_rows
from lnexp.evidence.plotting import WIDTH, finish, norm_style, norms_of

COLUMNS = {  # transformation -> heading, and the paper's name of it
    "weight_matrix_rescaling": ("weight matrix\nre-scaling", "weight matrix re-scaling"),
    "weight_matrix_recentring": ("weight matrix\nre-centring", "weight matrix re-centering"),
    "weight_vector_rescaling": ("weight vector\nre-scaling", "weight vector re-scaling"),
    "data_rescaling": ("data set\nre-scaling", "dataset re-scaling"),
    "data_recentring": ("data set\nre-centring", "dataset re-centering"),
    "case_rescaling": ("single case\nre-scaling", "single training case re-scaling"),
}
INVARIANT, CHANGES, BETWEEN = "#cfe8d5", "#f6dcc8", "#dddddd"
CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


def printed() -> dict[str, list[str]]:
    """Label of a norm -> the six entries of the paper's table, "invariant" or "no"."""
    return paper_rows("analysis", "Table 1", [f"invariance: {words}" for _, words in COLUMNS.values()])


def measured(frame: pd.DataFrame, layer: str) -> dict[str, list[tuple[float, float, float]]]:
    """Norm -> for each transformation: largest and smallest deviation of all draws and seeds; 1 where every seed is invariant."""
    frame = frame[(frame["layer"] == layer) & (frame["eps"] == frame["eps"].min())]
    found = {}
    for norm in norms_of(frame):
        of = frame[frame["norm.name"] == norm].groupby("metric")["value"]
        top, bottom, mean = of.max(), of.min(), of.mean()
        found[norm] = [(top[f"largest/{c}"], bottom[f"smallest/{c}"], mean[f"invariant/{c}"]) for c in COLUMNS]
    return found


def cell_text(largest: float, smallest: float, invariant: float) -> str:
    """The deviation that decides: the largest where the output is invariant, the smallest where it changes."""
    return {1.0: f"≤ {largest:.0e}", 0.0: f"≥ {smallest:.2g}"}.get(invariant, f"{smallest:.0e} to {largest:.0e}")


def entries(frame: pd.DataFrame) -> str:
    """The table in Markdown: the paper's entry, ours with the deviation, and whether they agree."""
    paper, rows = printed(), []
    for norm, cells in measured(frame, "dense").items():
        row = [label(norm)]
        for entry, (largest, smallest, invariant) in zip(paper.get(label(norm), ["-"] * len(COLUMNS)), cells, strict=True):
            ours = {1.0: "invariant", 0.0: "no"}.get(invariant, "undecided")
            agrees = "" if entry == "-" else ", agrees" if entry == ours else ", **differs**"
            row.append(f"{entry}; ours: {ours} ({cell_text(largest, smallest, invariant)}){agrees}")
        rows.append(row)
    head = ["norm", *(heading.replace("\n", " ") for heading, _ in COLUMNS.values())]
    caption = (
        "Change of the output, largest (smallest) of all draws and seeds, in units of the largest output; float64, eps = 1e-30."
    )
    return f'{markdown(head, rows)}\n{caption} "-": the paper has no entry.\n'


def paint(ax: plt.Axes, cells: dict[str, list[tuple[float, float, float]]], paper: dict[str, list[str]]) -> None:
    """A table as a picture: green where invariant, orange where not; framed in red where the paper says otherwise."""
    for y, (norm, row) in enumerate(cells.items()):
        for x, (largest, smallest, invariant) in enumerate(row):
            fill = {1.0: INVARIANT, 0.0: CHANGES}.get(invariant, BETWEEN)
            ax.add_patch(plt.Rectangle((x, y), 0.97, 0.94, facecolor=fill, edgecolor="none"))
            entry = paper.get(label(norm), ["-"] * len(COLUMNS))[x]
            wrong = entry != "-" and (entry == "invariant") != (invariant == 1.0)
            if paper:
                said = f"paper: {entry}" if entry != "-" else "paper: -"
                ax.text(x + 0.48, y + 0.31, said, ha="center", va="center", fontsize=6.5, color="#b00020" if wrong else "#333333")
            below = 0.68 if paper else 0.47
            ax.text(x + 0.48, y + below, cell_text(largest, smallest, invariant), ha="center", va="center", fontsize=7)
            if wrong:
                ax.add_patch(plt.Rectangle((x, y), 0.97, 0.94, fill=False, edgecolor="#b00020", linewidth=1.5))
    ax.set(xlim=(0, len(COLUMNS)), ylim=(len(cells), 0))
    ax.set_xticks(np.arange(len(COLUMNS)) + 0.48, [heading for heading, _ in COLUMNS.values()], fontsize=7)
    ax.set_yticks(np.arange(len(cells)) + 0.47, [label(norm) for norm in cells], fontsize=7.5)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The table of dense layers above; below, how deviations vanish with eps."""
    cells = measured(frame, "dense")
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 2.6 + 0.37 * len(cells)), height_ratios=[0.37 * len(cells), 1.6])
    paint(axes[0], cells, printed())
    vanishing(axes[1], frame)
    return finish(
        figure,
        frame,
        "Table 1: what the output of a layer is invariant to",
        "Cells: change of the output, max |h' - h| / max |h|, in float64 at eps = 1e-30. Green: invariant, with the largest "
        "change of all draws; orange: not, with the smallest. Red: differs from the paper. Curves: the change under "
        "re-scaling of the weight matrix by factors of 1/4 to 4, mean of the seeds' largest; it falls with eps, so "
        "invariance is exact without eps.",
        lines=False,
    )


def vanishing(ax: plt.Axes, frame: pd.DataFrame) -> None:
    """The largest change under re-scaling of the weight matrix over eps, for the norms that are invariant."""
    rows = frame[(frame["layer"] == "dense") & (frame["metric"] == "largest/weight_matrix_rescaling")]
    rows = rows[rows["eps"] > rows["eps"].min()]
    for order, norm in enumerate(norms_of(rows)):
        mean = rows[rows["norm.name"] == norm].groupby("eps")["value"].mean()
        if mean.min() < 1e-3:
            line_colour, marker = norm_style(norm)
            look = {"marker": marker, "markersize": 10 - order, "markerfacecolor": "none", "linewidth": 1}
            ax.loglog(mean.index, mean, color=line_colour, label=label(norm), **look)
    ax.set(xlabel="eps", ylabel="change of the output")


def draw_cells(frame: pd.DataFrame) -> plt.Figure:
    """A table for each kind of cell."""
    cells = {kind: measured(frame, kind) for kind in CELLS}
    rows = max(len(of) for of in cells.values())
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 3.2 + 0.6 * rows))
    for ax, (kind, of) in zip(axes, cells.items(), strict=True):
        paint(ax, of, {})
        ax.set_title(CELLS[kind], loc="left")
        if kind != "rnn":
            ax.set_xticks([])
    return finish(
        figure,
        frame[frame["layer"] != "dense"],
        "Table 1 for recurrent cells: the hidden state after four steps",
        "Both weight matrices are transformed together; the data are the inputs of all steps; initial states are drawn and "
        "stay as they are. A plain RNN normalises the sum of both terms, LSTM and GRU each term by itself: so under layer "
        "normalisation these do not change when the inputs are re-scaled, and the plain RNN does. Colours as in Table 1.",
        lines=False,
    )


FIGURES = (
    Figure("table1", draw, "table1"),
    Figure("table1_cells", draw_cells, "table1"),
    Figure("table1_entries", entries, "table1"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
