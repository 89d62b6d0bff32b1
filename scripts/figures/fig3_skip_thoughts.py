"""Figure 3: skip-thoughts, what sentence vectors are worth as training goes on, with and without LN (paper section 6.3)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import COLOURS, Figure, arms, main, paper_curve, provenance

PANELS = (  # panel of the paper's figure, our measure, title, label of the axis
    ("SICKr", "sick_pearson", "SICK, Pearson's r", "r x 100"),
    ("SICKmse", "sick_mse", "SICK, mean squared error", "MSE x 100"),
    ("MR", "mr_accuracy", "MR", "accuracy (%)"),
    ("CR", "cr_accuracy", "CR", "accuracy (%)"),
    ("SUBJ", "subj_accuracy", "SUBJ", "accuracy (%)"),
    ("MPQA", "mpqa_accuracy", "MPQA", "accuracy (%)"),
    (None, "trec_accuracy", "TREC", "accuracy (%)"),
)
PAPER = {"none": "base", "ln": "LN"}
PAPER_UPDATES = 50_000  # between two evaluations, the unit of the paper's axis


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Ours above, the paper's panels below: other text, other sizes, so never on one axis. Loss and TREC are ours alone.

    Of the paper's six panels those are drawn whose evaluation sets the runs had. The first point of a probe is the untrained
    encoder. Dotted is what needs no encoder: counts of words, in black, and the mean of the embeddings of a trained encoder, in
    its norm's colour.
    """
    panels = [panel for panel in PANELS if f"probes/{panel[1]}" in set(frame["metric"])]
    figure, axes = plt.subplots(2, len(panels) + 1, figsize=(2.45 * (len(panels) + 1), 5.2), squeeze=False)
    percent = frame["metric"].str.endswith(("/sick_pearson", "/sick_mse"))
    frame = frame.assign(value=frame["value"].where(~percent, 100 * frame["value"]))
    arms(axes[0, 0], frame, "valid/nll", "step")
    axes[0, 0].set(xlabel="update", ylabel="nats a word", title="validation NLL")
    axes[0, 0].legend(loc="upper right")
    axes[1, 0].axis("off")
    for (panel, measure, title, label), (ours, papers) in zip(panels, axes.T[1:], strict=True):
        arms(ours, frame, f"probes/{measure}", "step")
        ours.set(xlabel="update", ylabel=label, title=title)
        draw_without_encoder(ours, frame, measure)
        if panel is None:
            papers.axis("off")
            continue
        for norm, curve in PAPER.items():
            paper_curve(papers, panel, curve, norm, "Figure 3", scale=PAPER_UPDATES / 1000)
        papers.set(xlabel="update (thousands)", ylabel=label, title=title)
    if panels:
        axes[1, 1].legend(loc="lower right")
    figure.suptitle(
        f"Skip-thoughts: above ours ({provenance(frame)};\ndotted in black: counts of words, in colour: mean of the trained "
        "embeddings), below the paper's own curves on BookCorpus",
        fontsize=9,
    )
    return figure


def draw_without_encoder(ax: plt.Axes, frame: pd.DataFrame, measure: str) -> None:
    """Dotted lines for what word counts and mean embeddings reach, averages over runs."""
    for norm, value in frame[frame["metric"] == f"means/{measure}"].groupby("norm.name")["value"].mean().items():
        ax.axhline(value, color=COLOURS[str(norm)], linewidth=0.8, linestyle=":")
    counted = frame[frame["metric"] == f"words/{measure}"]["value"]
    if len(counted):
        ax.axhline(counted.mean(), color="black", linewidth=0.8, linestyle=":")


FIGURES = (Figure("fig3", draw, "fig3"), Figure("fig3_books", draw, "fig3_books"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
