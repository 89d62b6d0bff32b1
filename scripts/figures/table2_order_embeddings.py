"""Table 2: order embeddings, retrieval on test, the paper's rows and ours (paper section 6.1)."""

import pandas as pd

from lnexp import paths
from lnexp.plotting import NAMES, figure_main, provenance
from lnexp.stats import interval

WHAT = {
    f"{way} retrieval {name}": f"test/{way}_{metric}"
    for way in ("caption", "image")
    for name, metric in (("R@1", "recall_at_1"), ("R@5", "recall_at_5"), ("R@10", "recall_at_10"), ("mean rank", "mean_rank"))
}


def draw(frame: pd.DataFrame) -> str:
    """A row a model, the paper's first; ours are means over seeds with the 95 % t interval."""
    head = ["model", "data", *(name.replace(" retrieval", "") for name in WHAT)]
    rows = [head, ["---"] * len(head), *papers(), *ours(frame)]
    title = f"Retrieval on test, recalls in percent ({provenance(frame)}; the model of the best validation of each run):\n\n"
    return title + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def papers() -> list[list[str]]:
    numbers = pd.read_csv(paths.PAPER / "numbers.csv", dtype=str, keep_default_na=False)
    table = numbers[(numbers["experiment"] == "order_embeddings") & (numbers["table_or_figure"] == "Table 2")]
    rows = []
    for model in table["model"].unique():
        values = table[table["model"] == model].set_index("metric")["value"]
        rows.append([f"{model}, paper", "COCO", *(values.get(name, "-") for name in WHAT)])
    return rows


def ours(frame: pd.DataFrame) -> list[list[str]]:
    rows = []
    for norm in (n for n in NAMES if n in set(frame["norm.name"])):
        of = frame[frame["norm.name"] == norm]
        cells = []
        for metric in WHAT.values():
            values = of[of["metric"] == metric]["value"].to_numpy(float)
            half = (interval(values)[1] - interval(values)[0]) / 2
            cells.append(f"{values.mean():.1f} ± {half:.1f}" if len(values) > 1 else f"{values.mean():.1f}")
        rows.append([f"{NAMES[norm]} (n={of['id'].nunique()})", of["data"].iloc[0], *cells])
    return rows


if __name__ == "__main__":
    figure_main(__file__, "fig1_flickr8k", draw, "fig1_flickr8k_table2")
