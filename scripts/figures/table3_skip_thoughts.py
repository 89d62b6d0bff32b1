"""Table 3: skip-thoughts, sentence vectors on the evaluation sets, the paper's rows and ours (paper section 6.3)."""

import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main, markdown, mean_cell, paper_rows
from lnexp.evidence.plotting import norms_of, provenance

WHAT = {
    "SICK Pearson r": ("sick_pearson", ".3f"),
    "SICK Spearman rho": ("sick_spearman", ".3f"),
    "SICK MSE": ("sick_mse", ".3f"),
    "MR accuracy": ("mr_accuracy", ".1f"),
    "CR accuracy": ("cr_accuracy", ".1f"),
    "SUBJ accuracy": ("subj_accuracy", ".1f"),
    "MPQA accuracy": ("mpqa_accuracy", ".1f"),
    "TREC accuracy": ("trec_accuracy", ".1f"),
}


def draw(frame: pd.DataFrame) -> str:
    """A row a model, the paper's first; ours are means over seeds with the 95 % t interval."""
    head = ["vectors", *(name.removesuffix(" accuracy") for name in WHAT)]
    papers = [[f"{model}, paper", *row] for model, row in paper_rows("skip_thoughts", "Table 3", WHAT).items()]
    title = f"Sentence vectors, accuracies in percent ({provenance(frame)}; the paper's runs: BookCorpus):\n\n"
    return title + markdown(head, [*papers, *ours(frame)])


def ours(frame: pd.DataFrame) -> list[list[str]]:
    """For each norm the encoder at the end, before the first update, and the mean of its embeddings; then counts of words."""
    rows = []
    for norm in norms_of(frame):
        of = frame[frame["norm.name"] == norm]
        last = of["step"] == of.groupby("id")["step"].transform("max")
        name = f"{label(norm)} (n={of['id'].nunique()})"
        rows.append([name, *cells(of[last], "probes")])
        rows.append([f"{name}, untrained", *cells(of[of["step"] == 0], "probes")])
        rows.append([f"{name}, mean of its embeddings", *cells(of, "means")])
    return [*rows, ["counts of words", *cells(frame.drop_duplicates("metric"), "words")]]


def cells(frame: pd.DataFrame, split: str) -> list[str]:
    return [mean_cell(frame[frame["metric"] == f"{split}/{metric}"]["value"], digits) for metric, digits in WHAT.values()]


FIGURES = (Figure("fig3_table3", draw, "fig3"), Figure("fig3_books_table3", draw, "fig3_books"))

if __name__ == "__main__":
    main(FIGURES, __doc__)
