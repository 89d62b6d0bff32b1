"""Extension: which norm should a recurrent net use? A performance profile over tasks, cells and batch sizes, and a table."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main, markdown, mean_cell
from lnexp.evidence.plotting import WIDTH, colour, finish, norms_of
from lnexp.evidence.settings import best_of, final_values
from lnexp.evidence.tuning import performance_profile, profile_interval, ratios

OF_TASK = {  # metric, direction, digits of the table; a profile compares errors and NLL by ratio
    "permuted_mnist": ("valid/nll", "lower", ".3f"),
    "question_answering": ("valid/nll", "lower", ".3f"),
    "order_embeddings": ("valid/image_recall_sum", "higher", ".1f"),
}
PRESETS = ("which_norm_permuted_mnist", "which_norm_order", "which_norm_reader")
TAU = np.linspace(1, 2, 201)


def problems(frame: pd.DataFrame) -> dict[str, tuple[str, str, pd.DataFrame]]:
    """The blocks of the grid in which all norms have all seeds: name -> direction, digits, values [seed, norm].

    A value is the best over rates, each rate's mean over the last fifth of a run.
    """
    norms, found = norms_of(frame), {}
    for (task, cell, batch), block in frame.groupby(["task.name", "task.cell", "batch_size"]):
        metric, better, digits = OF_TASK[str(task)]
        best = best_of(final_values(block, metric, ["norm.name", "optimizer.lr"], better), "optimizer.lr", better)
        table = best.pivot_table(index="seed", columns="norm.name", values="value").reindex(columns=norms)
        if len(table) and not table.isna().any(axis=None):
            found[f"{str(task).replace('_', ' ')}, {str(cell).upper()}, batch {batch}"] = better, digits, table
    return found


def profile(frame: pd.DataFrame) -> plt.Figure:
    """The fraction of problems and seeds within a factor tau of the best norm, with bootstrap intervals."""
    norms, found = norms_of(frame), problems(frame)
    figure, ax = plt.subplots(figsize=(WIDTH, 4))
    seeds = min((len(table) for _, _, table in found.values()), default=0)
    if seeds:
        value_PSA = np.array([table.to_numpy(float)[:seeds] for _, _, table in found.values()])
        better = [direction for direction, _, _ in found.values()]
        rho_NA = performance_profile(ratios(value_PSA, better), TAU)
        low_NA, high_NA = profile_interval(value_PSA, better, TAU)
        for a, norm in enumerate(norms):
            ax.step(TAU, rho_NA[:, a], where="post", color=colour(norm), label=label(norm), linewidth=1.5)
            ax.fill_between(TAU, low_NA[:, a], high_NA[:, a], color=colour(norm), alpha=0.12, linewidth=0, step="post")
    ax.set(xlabel="factor of the best norm's NLL (recall: its inverse)", ylabel="fraction of problems and seeds within it")
    ax.set(xlim=(TAU[0], TAU[-1]), ylim=(0, 1.02))
    what = (
        f"{len(found)} complete problems (task, cell, batch size) of {seeds} seeds, each norm at the best of its rates.",
        "Shaded: 95 % bootstrap interval over seeds, for these problems.",
    )
    return finish(figure, frame, "Which norm for a recurrent net? Performance profile", *what, lines=False)


def table(frame: pd.DataFrame) -> str:
    """A row for each problem, a column for each norm: mean over seeds and half of its interval; the best mean in bold."""
    norms, rows = norms_of(frame), []
    for name, (better, digits, values) in problems(frame).items():
        mean = values.mean()
        best = mean.idxmin() if better == "lower" else mean.idxmax()
        cells = [mean_cell(values[norm], digits) for norm in norms]
        rows.append([name, *(f"**{cell}**" if norm == best else cell for norm, cell in zip(norms, cells, strict=True))])
    return markdown(["problem (NLL; order embeddings: sum of recalls)", *map(label, norms)], rows)


FIGURES = (
    Figure("which_norm_permuted_mnist", profile, PRESETS[0], more=PRESETS[1:]),
    Figure("which_norm_permuted_mnist_table", table, PRESETS[0], more=PRESETS[1:]),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
