"""What a script of scripts/figures consists of: figures, each drawn from tables alone, and the command that writes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lnexp import paths
from lnexp.analysis import ANALYSES
from lnexp.errors import check_choice
from lnexp.evidence.catalog import seeds_of_others
from lnexp.evidence.plotting import STYLE
from lnexp.evidence.stats import interval
from lnexp.evidence.tables import SCALES, load, read_plain
from lnexp.script import script


@dataclass(frozen=True)
class Figure:
    """A file of results/figures and how it is drawn.

    Attributes:
        name: the file's name without its suffix.
        draw: from the rows of `tables.load`, or of a plain table, to a figure, or to a table in Markdown.
        experiment: the preset or analysis whose runs are drawn.
        table: the plain table that is drawn instead, where there are no training runs.
        more: presets whose runs, if there are any, are drawn in the same figure. A run of several presets is drawn once.
    """

    name: str
    draw: Callable[[pd.DataFrame], mpl.figure.Figure | str]
    experiment: str = ""
    table: str = ""
    more: tuple[str, ...] = ()

    def save(self, results: Path = paths.RESULTS, scale: str | None = None) -> str:
        """Draw the figure into <results>/figures/<name>.png, or .md for a text; a line that says what was written.

        Reads results/tables and results/paper only. Writes nothing where the tables have no rows for it. Seeds that belong to
        another preset of the same configurations are left to that preset's figure.
        """
        if self.experiment:
            frame = own_runs(self.experiment, scale, results)
            others = [found for name in self.more if len(found := own_runs(name, scale, results))]
            if others:
                frame = pd.concat([frame, *others] if len(frame) else others)
                frame = frame[~frame.duplicated(["id", "metric", "step"])]
        else:
            frame = read_plain(self.table, results)
        if frame.empty and self.experiment:
            made_by = "make analysis" if self.experiment in ANALYSES else f"python train.py experiment={self.experiment}"
            return f"{self.name}: no runs of {self.experiment} in the tables; make them: {made_by}"
        if frame.empty:
            return f"{self.name}: there is no {Path(results) / 'tables' / self.table}.csv"
        path = Path(results) / "figures" / f"{self.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            drawn = self.draw(frame)
            if isinstance(drawn, str):
                path = path.with_suffix(".md")
                path.write_text(drawn)
            else:
                drawn.savefig(path, metadata={"Software": None})
                plt.close(drawn)
        return str(path)


def own_runs(experiment: str, scale: str | None, results: Path) -> pd.DataFrame:
    """The rows of a preset without the seeds that belong to another preset of the same configurations."""
    frame = load(experiment, scale, results)
    return frame[~frame["seed"].isin(seeds_of_others(experiment))].assign(experiment=experiment) if len(frame) else frame


def main(figures: Iterable[Figure], description: str | None = None) -> None:
    """The command of every figure script, and of scripts/make_figures.py: draw figures into results/figures.

    Exits with code 2 and one line after a user's mistake.
    """
    parser = argparse.ArgumentParser(description=description or "Draw figures from the tables.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures or experiments to draw; all where none is given")
    parser.add_argument("--scale", choices=SCALES, help="which runs; by default the strongest that the tables hold")
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/ and figures/")
    arguments = parser.parse_args()
    mpl.use("Agg")
    of = [(figure, {figure.name, figure.experiment or figure.table}) for figure in figures]

    def draw() -> None:
        for name in arguments.names:
            check_choice("figure", name, set().union(*(names for _, names in of)))
        for figure, names in of:
            if not arguments.names or names & set(arguments.names):
                print(figure.save(arguments.results, arguments.scale))

    sys.exit(script(draw))


def paper_rows(experiment: str, table: str, metrics: Iterable[str]) -> dict[str, list[str]]:
    """A table of the paper: model -> one cell a metric, as printed, "-" where there is none."""
    numbers = pd.read_csv(paths.PAPER / "numbers.csv", dtype=str, keep_default_na=False)
    rows = numbers[(numbers["experiment"] == experiment) & (numbers["table_or_figure"] == table)]
    metrics = list(metrics)
    of = {model: rows[rows["model"] == model].set_index("metric")["value"] for model in rows["model"].unique()}
    return {model: [values.get(metric, "-") for metric in metrics] for model, values in of.items()}


def mean_cell(values: Iterable[float], digits: str) -> str:
    """The mean over seeds, with half of its 95 % t interval where there are several; "-" where there is none."""
    array = np.asarray(list(values), float)
    if len(array) < 2:
        return f"{array[0]:{digits}}" if len(array) else "-"
    low, high = interval(array)
    return f"{array.mean():{digits}} ± {(high - low) / 2:{digits}}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])
