"""Figure 3: skip-thoughts, quality of sentence vectors during training, with and without LN (paper section 6.3)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, colour, finish, paper_curve, paper_points

PANELS = (  # panel of the paper's figure, our measure, title, label of the axis
    ("", "", "validation NLL", "nats per word"),
    ("SICKr", "sick_pearson", "SICK, Pearson's r", "r x 100"),
    ("SICKmse", "sick_mse", "SICK, squared error", "MSE x 100"),
    ("MR", "mr_accuracy", "MR", "accuracy (%)"),
    ("CR", "cr_accuracy", "CR", "accuracy (%)"),
    ("SUBJ", "subj_accuracy", "SUBJ", "accuracy (%)"),
    ("MPQA", "mpqa_accuracy", "MPQA", "accuracy (%)"),
    ("", "trec_accuracy", "TREC", "accuracy (%)"),
)
PAPER = {"none": "base", "ln": "LN"}
BANDS = {"MR", "CR", "SUBJ", "MPQA"}  # panels with shaded bands in the paper: spread over ten folds
PAPER_UPDATES = 50_000  # between two evaluations, the unit of the paper's axis


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Pairs of panels, ours and the paper's: other text and sizes, so never on one axis. NLL and TREC are ours alone.

    Of the paper's six panels those are drawn whose evaluation sets the runs had. The first point of a probe is the untrained
    encoder. Dotted is what needs no encoder: counts of words, in black, and the mean of the embeddings of a trained encoder, in
    its norm's colour.
    """
    panels = [panel for panel in PANELS if not panel[1] or f"probes/{panel[1]}" in set(frame["metric"])]
    percent = frame["metric"].str.endswith(("/sick_pearson", "/sick_mse"))
    frame = frame.assign(value=frame["value"].where(~percent, 100 * frame["value"]))
    rows = (len(panels) + 1) // 2
    figure = plt.figure(figsize=(WIDTH, 1.2 + 1.9 * rows))
    grid = figure.add_gridspec(rows, 4)
    for n, (panel, measure, title, axis) in enumerate(panels):
        row, column = n // 2, n % 2 * 2
        ours = figure.add_subplot(grid[row, column] if panel else grid[row, column : column + 2])
        arms(ours, frame, f"probes/{measure}" if measure else "valid/nll", "step")
        ours.set(xlabel="update", ylabel=axis, title=f"{title}: ours" if panel else f"{title} (ours alone)")
        draw_without_encoder(ours, frame, measure)
        if panel:
            draw_paper(figure.add_subplot(grid[row, column + 1]), panel)
    caption = (
        f"Our runs end after {frame['step'].max():,} updates, the paper's after 1,000,000 on BookCorpus; its bands are a spread",
        'over ten folds, "Original" is the published model of Kiros et al. Dotted: counts of words (black) and the mean of the',
        "trained embeddings (colours), without an encoder.",
        "MR, CR and TREC are stand-ins from a published package." if "package" in set(frame["task.probes"]) else "",
    )
    title = "Figure 3: skip-thoughts, sentence vectors during training"
    return finish(figure, frame, title, *(caption if len(panels) > 1 else ()))


def draw_paper(ax: plt.Axes, panel: str) -> None:
    """The paper's panel: two curves, their bands, and the published model of Kiros et al."""
    for norm, curve in PAPER.items():
        band = f"{curve}band" if panel in BANDS else ""
        paper_curve(ax, panel, curve, norm, "Figure 3", scale=PAPER_UPDATES / 1000, band=band)
    x, y = paper_points("Figure 3", panel, "orig")
    ax.plot(x * PAPER_UPDATES / 1000, y, color="black", linewidth=0.9, linestyle="-.", label='paper\'s "Original"')
    ax.set(xlabel="update (thousands)", title="paper")


def draw_without_encoder(ax: plt.Axes, frame: pd.DataFrame, measure: str) -> None:
    """Dotted lines for what word counts and mean embeddings reach, averages over runs."""
    for norm, value in frame[frame["metric"] == f"means/{measure}"].groupby("norm.name")["value"].mean().items():
        ax.axhline(value, color=colour(str(norm)), linewidth=0.9, linestyle=":")
    counted = frame[frame["metric"] == f"words/{measure}"]["value"]
    if len(counted):
        ax.axhline(counted.mean(), color="black", linewidth=0.9, linestyle=":")


FIGURES = tuple(Figure(name, draw, name) for name in ("fig3", "fig3_long", "fig3_books"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
