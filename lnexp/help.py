"""The text of `python train.py --help`: one sentence for each choice, from the comment at the top of its yaml file."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

from lnexp import paths

GROUPS = ("task", "norm", "scale", "experiment", "data")
HEADER = """\
lnexp: re-run "Layer Normalization" (Ba, Kiros, Hinton 2016)

  python train.py task=mnist norm=ln batch_size=4 seed=1                 one run
  python train.py task=mnist scale=paper plan=true                       what a run would cost
  python train.py experiment=fig6                                        the grid behind a figure; again: resume
  python train.py experiment=fig6,permuted_mnist                         all runs of both
  python train.py experiment=fig6 hydra/launcher=joblib                  the same on all cores
  python train.py -m task=mnist norm=none,ln seed=0,1,2,3,4              a grid of your own
"""
FOOTER = """\
All other keys and their defaults are in configs/config.yaml, with a comment each. Options, in any place of the command:
  -m                     a run for each combination of values: norm=none,ln  seed=range(5)  norm=glob(*)
  --cfg job              print the configuration of one run and exit; with --resolve, references replaced by values
  --info                 print what Hydra has read: defaults, search path, plugins
  eval "$(python train.py -sc install=bash)"     tab completion in this shell (bash, zsh, fish)"""


def text() -> str:
    """The whole text, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, 130)
    return "\n".join([HEADER, *(_group(name, width) for name in GROUPS), FOOTER])


def _group(name: str, width: int) -> str:
    choices = {path.stem: sentence(path) for path in sorted((paths.CONFIGS / name).glob("*.yaml"))}
    column = max(map(len, choices)) + 4
    lines = [f"{name}="]
    for choice, says in choices.items():
        lines += textwrap.wrap(says, max(width, 60), initial_indent=f"  {choice}".ljust(column), subsequent_indent=" " * column)
    return "\n".join(lines) + "\n"


def sentence(path: Path) -> str:
    """The first sentence of the comment at the top of a yaml file."""
    lines = path.read_text().splitlines()
    comment = []
    for line in lines[lines[0].startswith("# @package") :]:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return re.split(r"(?<=[.?])(?<!\bal\.)\s+(?=[A-Z0-9])", " ".join(comment))[0]
