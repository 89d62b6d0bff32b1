"""The Children's Book Test (Hill et al. 2016): twenty sentences of a story, the next one with a word left out, ten candidates.

Lines "1 First sentence .", ... "20 ...", then "21 Next sentence with XXXXX .<tab>answer<tab><tab>one|two|...", and a blank line
between questions. The candidates become entities: @entity0 is the one that is mentioned first.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.cloze.draft import Draft, Prepared, stamps
from lnexp.data.sources import user_folder
from lnexp.errors import UserError, unknown

KINDS = ("NE", "CN")
ENDINGS = {"train": "train", "valid": "valid_2000ex", "test": "test_2500ex"}
WHERE = "research.facebook.com/downloads/babi, CBTest.tgz; texts of Project Gutenberg, GFDL 1.3"
SENTENCES, CANDIDATES, BLANK = 20, 10, "XXXXX"

Asked = tuple[list[str], list[str], str, list[str]]  # words of passage and question, answer, candidates


def identity(data: Mapping[str, Any]) -> list[object]:
    """What the set follows from, apart from the keys of `data`: its files."""
    return [stamps(files(data).values())]


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The file of each split."""
    if data["kind"] not in KINDS:
        raise unknown("data.kind", data["kind"], KINDS)
    names = {split: f"cbtest_{data['kind']}_{ending}.txt" for split, ending in ENDINGS.items()}
    folder = Path(data["root"]).expanduser()
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        user_folder(data["root"], [], "the Children's Book Test", WHERE)
        raise UserError(
            f"data.root={data['root']}: {missing[0]} is missing; the folder should hold the Children's Book Test ({WHERE})"
        )
    return {split: folder / name for split, name in names.items()}


def prepare(data: Mapping[str, Any], data_dir: Path) -> Prepared:
    """Read the three files; a question whose answer is not in its passage is left out and counted."""
    paths = files(data)
    draft = Draft(paths)
    print(f"preparing the Children's Book Test ({data['kind']})", file=sys.stderr)
    for split, path in paths.items():
        for passage, question, answer, candidates in tqdm(read(path), path.name, disable=None, unit=" questions"):
            if answer not in passage:
                draft.splits[split].counts["left out: answer not in the passage"] += 1
                continue
            mentioned = dict.fromkeys(word for word in passage + question if word in candidates)
            called = {word: f"@entity{n}" for n, word in enumerate(mentioned)} | {BLANK: PLACEHOLDER}
            texts = [
                [called.get(word, "#num" if word.isdigit() else word.lower()) for word in text] for text in (passage, question)
            ]
            draft.add(split, texts[0], [(texts[1], list(mentioned).index(answer))])
    return draft.finish("cbt", CANDIDATES, data["vocabulary_size"], Counter())[0]


def read(path: Path) -> Iterator[Asked]:
    """The questions of a file.

    Raises:
        UserError: it is not in the format; with file and line.
    """
    passage: list[str] = []
    expected = 1
    with path.open(encoding="utf-8", errors="replace") as file:
        for line, text in enumerate(file, 1):
            number, _, rest = text.strip("\n").partition(" ")
            if not text.strip() and expected == 1:
                continue
            if number != str(expected):
                raise UserError(f"{path}, line {line}: begins with '{number[:20]}', should begin with {expected}")
            if expected <= SENTENCES:
                passage += rest.split()
                expected += 1
                continue
            yield (passage, *_question(f"{path}, line {line}", rest))
            passage, expected = [], 1
    if expected != 1:
        raise UserError(f"{path}: ends within a question, before its line {expected}")


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
