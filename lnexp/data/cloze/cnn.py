"""DeepMind's CNN questions (Hermann et al. 2015), one per file: the paper's own set, whole articles or four sentences of each.

A file holds, separated by blank lines: URL, article, question, answer, and one line per entity, "@entity3:Tony Blair".
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
from lnexp.data.cloze.builder import ClozeArrays, ClozeBuilder
from lnexp.data.sources import Wheel, refuse_empty, user_folder
from lnexp.data.text.books import decoded
from lnexp.errors import UserError

FOLDERS = {"train": "training", "valid": "validation", "test": "test"}
WHERE = "cs.nyu.edu/~kcho/DMQA or the scripts of github.com/deepmind/rc-data; the articles are CNN's, for research"
SENTENCES = 4  # paper 6.2
ENTITY_WORD = re.compile(r"@entity\d{1,5}")
NUMBER = re.compile(r"\d[\d.,:]*")
ENDS, CLOSING = {".", "!", "?"}, {"''", '"', "'", ")"}


@dataclass(frozen=True)
class Question:
    """One file: article and question as words, the right entity, and all entities that the file lists."""

    passage: list[str]
    question: list[str]
    answer: str
    entities: set[str]


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `prepare` reads, by name."""
    return {f"{path.parent.name}/{path.name}": path for paths in split_files(data["root"]).values() for path in paths}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `prepare` reads: none."""
    return []


def split_files(root: str | Path) -> dict[str, list[Path]]:
    """The .question files of each split, sorted by name."""
    folder = user_folder(root, [], "the folders training, validation and test of CNN's questions", WHERE)
    found = {}
    for split, name in FOLDERS.items():
        names = sorted(e.name for e in os.scandir(folder / name)) if (folder / name).is_dir() else []
        found[split] = [folder / name / n for n in names if n.endswith(".question") and not n.startswith(".")]
        if not found[split]:
            raise UserError(f"data.root={root}: {name}/ holds no .question file; get them from {WHERE}")
    return found


def prepare(data: Mapping[str, Any], data_dir: Path) -> ClozeArrays:
    """Read all files. A question whose answer is not in the article, or with entities that are not listed, is left out.

    If the answer is in the article but not in its four sentences, the question stays, as in the paper, and is counted as "answer
    not in the sentences".
    """
    paths = split_files(data["root"])
    refuse_empty(path for of_split in paths.values() for path in of_split)
    builder, last = ClozeBuilder(paths), 0
    print(f"preparing {sum(map(len, paths.values()))} CNN questions ({data['passage']})", file=sys.stderr)
    all_paths = [(split, path) for split, some in paths.items() for path in some]
    for split, path in tqdm(all_paths, "reading questions", disable=None, unit=" files"):
        found, counts = read(path), builder.splits[split].counts
        used = {word for word in [*found.passage, *found.question, found.answer] if ENTITY_WORD.fullmatch(word)}
        for reason, wrong in (
            ("answer not in the article", found.answer not in found.passage),
            ("entities that are not explained", not used <= found.entities),
        ):
            if wrong:
                if not counts[f"left out: {reason}"]:
                    print(f"{path}: left out: {reason} (further ones are only counted)", file=sys.stderr)
                counts[f"left out: {reason}"] += 1
                break
        else:
            passage = found.passage if data["passage"] == "full" else relevant(found.passage, found.question)
            counts["answer not in the sentences"] += found.answer not in passage
            last = max(last, *(int(word.removeprefix("@entity")) for word in used))
            builder.add(split, passage, [(found.question, int(found.answer.removeprefix("@entity")))])
    return builder.finish("cnn", last + 1, data["vocabulary_size"], Counter())[0]


def read(path: Path) -> Question:
    """One file.

    Raises:
        UserError: it is not in the format; with file and line.
    """
    lines = decoded(path.read_bytes(), str(path), 1).replace("\r\n", "\n").rstrip("\n").split("\n")

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
    """The words of a tokenized text in lower case, all numbers as #num (Cooijmans et al. 2016, appendix)."""
    return ["#num" if NUMBER.fullmatch(word) else word for word in text.lower().split()]


def split_sentences(passage: list[str]) -> Iterator[list[str]]:
    """The sentences of an article: each ends with . ! or ? and the quotation mark after it, if any."""
    sentence: list[str] = []
    for word in passage:
        if sentence and any(w in ENDS for w in sentence[-2:]) and word not in ENDS and word not in CLOSING:
            yield sentence
            sentence = []
        sentence.append(word)
    yield sentence


def relevant(passage: list[str], question: list[str]) -> list[str]:
    """The four sentences that share the most distinct words with the question, in the order of the article.

    The paper says only "by string matching"; the rule is ours: punctuation does not count, ties go to the earlier sentence.
    """
    asked = {word for word in question if any(c.isalnum() for c in word)} - {PLACEHOLDER}
    sentences = list(split_sentences(passage))
    best = sorted(range(len(sentences)), key=lambda n: (-len(asked & set(sentences[n])), n))[:SENTENCES]
    return [word for n in sorted(best) for word in sentences[n]]
