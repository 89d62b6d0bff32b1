"""Table 2: order embeddings, retrieval on test, the paper's rows and ours (paper section 6.1)."""

import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main, markdown, mean_cell, paper_rows
from lnexp.evidence.plotting import norms_of, provenance

WHAT = {
    f"{way} retrieval {name}": f"test/{way}_{metric}"
    for way in ("caption", "image")
    for name, metric in (("R@1", "recall_at_1"), ("R@5", "recall_at_5"), ("R@10", "recall_at_10"), ("mean rank", "mean_rank"))
}


def draw(frame: pd.DataFrame) -> str:
    """A row a model, the paper's first; ours are means over seeds with the 95 % t interval."""
    head = ["model", "data", *(name.replace(" retrieval", "") for name in WHAT)]
    papers = [[f"{model}, paper", "COCO", *row] for model, row in paper_rows("order_embeddings", "Table 2", WHAT).items()]
    title = f"Retrieval on test, recalls in percent ({provenance(frame)}; the model of the best validation of each run):\n\n"
    return title + markdown(head, [*papers, *ours(frame)])


def ours(frame: pd.DataFrame) -> list[list[str]]:
    rows = []
    for norm in norms_of(frame):
        of = frame[frame["norm.name"] == norm]
        cells = [mean_cell(of[of["metric"] == metric]["value"], ".1f") for metric in WHAT.values()]
        rows.append([f"{label(norm)} (n={of['id'].nunique()})", of["data"].iloc[0], *cells])
    return rows


FIGURES = (Figure("fig1_flickr8k_table2", draw, "fig1_flickr8k"),)

if __name__ == "__main__":
    main(FIGURES, __doc__)
