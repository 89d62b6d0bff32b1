"""DeepMind's CNN questions (Hermann et al. 2015), a file each: the paper's own set, whole articles or four sentences of each.

A file holds, blank lines between: URL, article, question, answer, and what each entity stands for, "@entity3:Tony Blair" a line.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.cloze.draft import Draft, Prepared, stamps
from lnexp.data.sources import user_folder
from lnexp.errors import UserError, unknown

FOLDERS = {"train": "training", "valid": "validation", "test": "test"}
WHERE = "cs.nyu.edu/~kcho/DMQA or the scripts of github.com/deepmind/rc-data; the articles are CNN's, for research"
SENTENCES = 4  # paper 6.2
ENTITY_WORD = re.compile(r"@entity\d{1,5}")
NUMBER = re.compile(r"\d[\d.,:]*")
ENDS, CLOSING = {".", "!", "?"}, {"''", '"', "'", ")"}


@dataclass(frozen=True)
class Question:
    """One file: article and question as words, the entity that is right, and all entities that the file explains."""

    passage: list[str]
    question: list[str]
    answer: str
    entities: set[str]


def identity(data: Mapping[str, Any]) -> list[object]:
    """What the set follows from, apart from the keys of `data`: its files."""
    if data["passage"] not in ("top4", "full"):
        raise unknown("data.passage", data["passage"], ("top4", "full"))
    return [stamps(paths) for paths in files(data["root"]).values()]


def files(root: str | Path) -> dict[str, list[Path]]:
    """The .question files of each split, by name."""
    folder = user_folder(root, [], "the folders training, validation and test of CNN's questions", WHERE)
    found = {}
    for split, name in FOLDERS.items():
        names = sorted(e.name for e in os.scandir(folder / name)) if (folder / name).is_dir() else []
        found[split] = [folder / name / n for n in names if n.endswith(".question")]
        if not found[split]:
            raise UserError(f"data.root={root}: {name}/ holds no .question file; get them from {WHERE}")
    return found


def prepare(data: Mapping[str, Any], data_dir: Path) -> Prepared:
    """Read all files; a question whose answer is not in the article, or with entities that it does not explain, is left out.

    Of four sentences the answer may be lost: such questions stay, as in the paper, and count as "answer not in the sentences".
    """
    paths = files(data["root"])
    draft, last = Draft(paths), 0
    print(f"preparing {sum(map(len, paths.values()))} CNN questions ({data['passage']})", file=sys.stderr)
    for split, path in tqdm(
        [(s, p) for s, some in paths.items() for p in some], "reading questions", disable=None, unit=" files"
    ):
        found, counts = read(path), draft.splits[split].counts
        used = {word for word in [*found.passage, *found.question, found.answer] if ENTITY_WORD.fullmatch(word)}
        for reason, wrong in (
            ("answer not in the article", found.answer not in found.passage),
            ("entities that are not explained", not used <= found.entities),
        ):
            if wrong:
                if not counts[f"left out: {reason}"]:
                    print(f"{path}: left out: {reason} (counted from here on)", file=sys.stderr)
                counts[f"left out: {reason}"] += 1
                break
        else:
            passage = found.passage if data["passage"] == "full" else relevant(found.passage, found.question)
            counts["answer not in the sentences"] += found.answer not in passage
            last = max(last, *(int(word.removeprefix("@entity")) for word in used))
            draft.add(split, passage, [(found.question, int(found.answer.removeprefix("@entity")))])
    return draft.finish("cnn", last + 1, data["vocabulary_size"], Counter())[0]


def read(path: Path) -> Question:
    """One file.

    Raises:
        UserError: it is not in the format; with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason})") from error

    def check(line: int, right: bool, should: str) -> None:
        if not right:
            found = repr(lines[line - 1][:40]) if line <= len(lines) else "the end of the file"
            raise UserError(f"{path}, line {line}: found {found}, should be {should}")

    for line, what in ((1, "the URL"), (3, "the article"), (5, "the question"), (7, "the answer")):
        check(line, len(lines) >= line and bool(lines[line - 1].strip()), what)
        check(line + 1, len(lines) > line and not lines[line].strip(), "blank")
    question, answer = words(lines[4]), lines[6].strip()
    check(5, question.count(PLACEHOLDER) >= 1, f"a question with {PLACEHOLDER}")
    check(7, ENTITY_WORD.fullmatch(answer) is not None, "an entity such as @entity3")
    entities = set()
    for line, text in enumerate(lines[8:], 9):
        entity = text.partition(":")[0]
        check(line, ":" in text and ENTITY_WORD.fullmatch(entity) is not None, "an entity and what it stands for, @entity3:...")
        entities.add(entity)
    return Question(words(lines[2]), question, answer, entities)


def words(text: str) -> list[str]:
    """Words of a text that is tokenised already, in lower case, all numbers as one (Cooijmans et al. 2016, appendix)."""
    return ["#num" if NUMBER.fullmatch(word) else word for word in text.lower().split()]


def split_sentences(passage: list[str]) -> Iterator[list[str]]:
    """The sentences of an article: each ends with . ! or ? and the quotation mark behind it, if any."""
    sentence: list[str] = []
    for word in passage:
        if sentence and any(w in ENDS for w in sentence[-2:]) and word not in ENDS and word not in CLOSING:
            yield sentence
            sentence = []
        sentence.append(word)
    yield sentence


def relevant(passage: list[str], question: list[str]) -> list[str]:
    """The four sentences that share the most different words with the question, in the order of the article.

    The paper says "by string matching" and no more, so the rule is ours: signs do not count, of equal ones the earlier is taken.
    """
    asked = {word for word in question if any(c.isalnum() for c in word)} - {PLACEHOLDER}
    sentences = list(split_sentences(passage))
    best = sorted(range(len(sentences)), key=lambda n: (-len(asked & set(sentences[n])), n))[:SENTENCES]
    return [word for n in sorted(best) for word in sentences[n]]
