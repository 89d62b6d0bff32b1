"""Figure 1: order embeddings, image-retrieval recalls on validation against updates (paper section 6.1)."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, paper_curve

RECALLS = (1, 5, 10)
PAPER = {"none": "base", "ln": "LN"}
PAPER_UPDATES = 300  # between two validations, the unit of the paper's axis


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Ours above, the paper's three panels below: other images and features, so never on one axis."""
    figure, axes = plt.subplots(2, len(RECALLS), figsize=(WIDTH, 5.4))
    for column, k in enumerate(RECALLS):
        ours, papers = axes[:, column]
        arms(ours, frame, f"valid/image_recall_at_{k}", "step")
        for norm, curve in PAPER.items():
            paper_curve(papers, f"R{k}", curve, norm, "Figure 1", scale=PAPER_UPDATES / 1000)
        ours.set(xlabel="update", ylabel=f"R@{k} (%)", title=f"Ours: recall at {k}")
        papers.set(xlabel="update (thousands)", ylabel=f"R@{k} (%)", title="Paper, COCO", ylim=(papers.get_ylim()[0], None))
    return finish(
        figure,
        frame,
        "Figure 1: order embeddings, image retrieval on validation",
        f"Our runs end after {frame['step'].max():,} updates, the paper's after up to 80,000, on other images and features.",
    )


FIGURES = tuple(Figure(name, draw, name) for name in ("fig1", "fig1_flickr8k", "fig1_flickr8k_long"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
