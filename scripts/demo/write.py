"""Write a text with a run's network: python scripts/demo/write.py results/runs/handwriting/RUN "layer normalization" --bias 1.0

With --style LINE the network first reads a real line (a name such as a01-000u-01, or a number) and goes on in its style.
Writes OUT.svg and OUT.png, the text; OUT-window.png, where the window was at each point; OUT-biases.png, one sheet of several
biases.
"""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from lnexp.data.strokes.alphabet import OTHER, encode
from lnexp.data.strokes.stroke_set import StrokeSet
from lnexp.errors import UserError, check_integer, check_number
from lnexp.files import write_whole
from lnexp.script import script
from lnexp.seeding import generator
from lnexp.tasks.handwriting import pictures
from lnexp.tasks.handwriting.model import HandwritingNet
from lnexp.tasks.handwriting.task import Handwriting
from lnexp.tasks.handwriting.write import Written, write
from lnexp.training.load import load

SWEEP = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # biases of the sheet
NAMELESS = {"Software": None}  # in pictures: the same bytes with every version of matplotlib


def symbols(text: str, lines: StrokeSet) -> np.ndarray:
    """The symbols of a text to write.

    Raises:
        UserError: no text, or one that is longer than all training lines.
    """
    if not text.strip():
        raise UserError("TEXT is empty: give at least one character")
    codes, longest = encode(text), int(lines.texts.lengths_N[lines.splits["train"]].max())
    if len(codes) > longest:
        raise UserError(f"TEXT has {len(codes)} characters: at most {longest}, as many as the longest training line")
    if strange := sorted({c for c, code in zip(text, codes, strict=True) if code == OTHER}):
        count, names = int((codes == OTHER).sum()), " ".join(strange)
        print(f"{count} of {len(codes)} characters are not in the table and become one symbol: {names}", file=sys.stderr)
    return codes


def style(given: str | None, lines: StrokeSet) -> tuple[np.ndarray, np.ndarray] | None:
    """Offsets and symbols of the line to read first, by name or number."""
    if given is None:
        return None
    if given.isdigit() and int(given) < len(lines.names):
        line = int(given)
    elif given in lines.names:
        line = lines.names.index(given)
    else:
        near = get_close_matches(given, lines.names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"--style {given}: no such line; give a name or a number below {len(lines.names)}{hint}")
    return lines.standardised(line), np.append(lines.texts[line], encode(" "))


def described(bias: float, sample: Written) -> str:
    return f"bias {bias:g}, {len(sample.offsets) - sample.primed} points" + ", broken off before the end" * (not sample.ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of task=handwriting")
    parser.add_argument("text", metavar="TEXT", help="what to write")
    parser.add_argument("--bias", type=float, default=1.0, help="0: as the network draws; more: neater (default 1)")
    parser.add_argument("--style", metavar="LINE", help="name or number of a line to read first")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the run")
    parser.add_argument("--out", type=Path, default=Path("written"), help="the files to write, without suffix (default written)")
    arguments = parser.parse_args()
    check_number("--bias", arguments.bias, least=0)
    check_integer("--seed", arguments.seed, least=0)
    _, task, model = load(arguments.run, arguments.root)
    if not isinstance(task, Handwriting) or not isinstance(model, HandwritingNet):
        raise UserError(f"{arguments.run}: a run of task={task.name}, must be one of task={Handwriting.name}")
    if model.window is None:
        raise UserError(f"{arguments.run}: its network predicts without a text (task.network=prediction); it cannot write one")
    lines = task.set
    codes, prime, pace = symbols(arguments.text, lines), style(arguments.style, lines), lines.points_per_symbol()

    def drawn(biases: list[float]) -> list[Written]:
        return write(model, codes, biases, pace, prime, generator(arguments.seed, "write"))

    torch.set_num_threads(1)
    (sample,) = drawn([arguments.bias])
    several = [drawn([bias])[0] for bias in SWEEP]
    one, *sweep = [pictures.ink(each, lines.mean_2, lines.std_2) for each in (sample, *several)]
    out = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    named = {suffix: out.with_name(out.name + suffix) for suffix in (".svg", ".png", "-window.png", "-biases.png")}
    write_whole(named[".svg"], pictures.svg([one]).encode())
    pictures.sheet([one], [described(arguments.bias, sample)]).savefig(named[".png"], metadata=NAMELESS)
    pictures.alignment(sample).savefig(named["-window.png"], metadata=NAMELESS)
    titles = [described(bias, each) for bias, each in zip(SWEEP, several, strict=True)]
    pictures.sheet(sweep, titles).savefig(named["-biases.png"], metadata=NAMELESS)
    print("\n".join([described(arguments.bias, sample), *map(str, named.values())]))


if __name__ == "__main__":
    sys.exit(script(main))
