"""The Children's Book Test (Hill et al. 2016): 20 sentences of a story, the next one with a blank, 10 candidates.

Lines "1 First sentence .", ... "20 ...", then "21 Next sentence with XXXXX .<tab>answer<tab><tab>one|two|...", and a blank line
between questions. The candidates become entities: @entity0 is the first one in the text.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.cloze.builder import ClozeArrays, ClozeBuilder
from lnexp.data.sources import Wheel, gzipped_or_not, refuse_empty, user_folder
from lnexp.errors import UserError, unknown

KINDS = ("NE", "CN")
ENDINGS = {"train": "train", "valid": "valid_2000ex", "test": "test_2500ex"}
WHERE = "research.facebook.com/downloads/babi, CBTest.tgz; texts of Project Gutenberg, GFDL 1.3"
SENTENCES, CANDIDATES, BLANK = 20, 10, "XXXXX"

Asked = tuple[list[str], list[str], str, list[str]]  # words of passage and question, answer, candidates


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `prepare` reads, by name."""
    return {path.name: path for path in split_files(data).values()}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `prepare` reads: none."""
    return []


def split_files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The file of each split."""
    if data["kind"] not in KINDS:
        raise unknown("data.kind", data["kind"], KINDS)
    names = {split: f"cbtest_{data['kind']}_{ending}.txt" for split, ending in ENDINGS.items()}
    folder = user_folder(data["root"], names.values(), "the Children's Book Test", WHERE)
    return {split: gzipped_or_not(folder / name) for split, name in names.items()}


def prepare(data: Mapping[str, Any], data_dir: Path) -> ClozeArrays:
    """Read the three files. A question whose answer is not in its passage is left out and counted."""
    paths = split_files(data)
    refuse_empty(paths.values())
    builder = ClozeBuilder(paths)
    print(f"preparing the Children's Book Test ({data['kind']})", file=sys.stderr)
    for split, path in paths.items():
        for passage, question, answer, candidates in tqdm(read(path), path.name, disable=None, unit=" questions"):
            if answer not in passage:
                builder.splits[split].counts["left out: answer not in the passage"] += 1
                continue
            mentioned = dict.fromkeys(word for word in passage + question if word in candidates)
            called = {word: f"@entity{n}" for n, word in enumerate(mentioned)} | {BLANK: PLACEHOLDER}
            texts = [
                [called.get(word, "#num" if word.isdigit() else word.lower()) for word in text] for text in (passage, question)
            ]
            builder.add(split, texts[0], [(texts[1], list(mentioned).index(answer))])
    return builder.finish("cbt", CANDIDATES, data["vocabulary_size"], Counter())[0]


def read(path: Path) -> Iterator[Asked]:
    """The questions of a file.

    Raises:
        UserError: it is not in the format; with file and line.
    """
    passage: list[str] = []
    expected, damaged = 1, 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", errors="replace") as file:
            for line, row in enumerate(file, 1):
                damaged += "\ufffd" in row
                number, _, rest = row.strip("\n").partition(" ")
                if not row.strip() and expected == 1:
                    continue
                if number != str(expected):
                    raise UserError(f"{path}, line {line}: begins with '{number[:20]}', should begin with {expected}")
                if expected <= SENTENCES:
                    passage += rest.split()
                    expected += 1
                    continue
                yield (passage, *_question(f"{path}, line {line}", rest))
                passage, expected = [], 1
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if expected != 1:
        raise UserError(f"{path}: ends within a question, before its line {expected}")
    if damaged:
        print(f"{path}: {damaged} lines are not UTF-8; their damaged characters are read as U+FFFD", file=sys.stderr)


def _question(place: str, text: str) -> tuple[list[str], str, list[str]]:
    """Question, answer and candidates of a line "question<tab>answer<tab><tab>one|two|..."."""
    parts = text.split("\t")
    if len(parts) != 4:
        raise UserError(f"{place}: has {len(parts) - 1} tabs, should be question, tab, answer, two tabs, candidates")
    question, answer, candidates = parts[0].split(), parts[1].strip(), [c.strip() for c in parts[3].split("|")]
    if BLANK not in question:
        raise UserError(f"{place}: the question has no {BLANK}")
    if answer not in candidates or len(set(candidates)) > CANDIDATES:
        raise UserError(
            f"{place}: the answer '{answer}' should be one of at most {CANDIDATES} candidates, not {'|'.join(candidates)}"
        )
    return question, answer, candidates
