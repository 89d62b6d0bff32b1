"""Questions generated from novels: a folder of one .txt per book, or .tar.xz archives of such."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lnexp.data.cloze import generated
from lnexp.data.cloze.builder import ClozeArrays
from lnexp.data.cloze.generated import NAMES, SENTENCES, TOKENS, Text, fits, names_of
from lnexp.data.cloze.names import held_out, marked, name_words
from lnexp.data.sources import Wheel, user_file
from lnexp.data.text import books, duplicates
from lnexp.data.text.sentences import cased_sentences
from lnexp.errors import UserError
from lnexp.seeding import fold

VALID = 10  # 1 / 10 of the books are the validation set
SPAN = 25  # one passage is taken from each 25 consecutive sentences
TEST_TITLE = "_BOOK_TITLE_"  # starts the line before each book of cbt_test.txt, the raw text of the Children's Book Test
TEST_FILE = f"books, a line '{TEST_TITLE} : title' before each"


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `prepare` reads, by name."""
    found = {f"root/{name}": path for name, path in books.find(data["root"]).paths.items()}
    if data["test_root"]:
        path = user_file(data["test_root"], TEST_FILE, "data.test_root")
        found[f"test_root/{path.name}"] = path
    return found


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `prepare` reads: none."""
    return []


def read_test(path: Path) -> list[str]:
    """The text of each book of a file with one sentence per line."""
    texts = books.decoded(path.read_bytes(), str(path), 1).split(TEST_TITLE)[1:]
    if not texts:
        raise UserError(f"{path}: no line starts with {TEST_TITLE}; it should hold {TEST_FILE}")
    return [text.partition("\n")[2].replace("\n", "\n\n") for text in texts]


def prepare(data: Mapping[str, Any], data_dir: Path) -> ClozeArrays:
    """Split by book, leave out near-duplicates (training books first), find names book by book, generate questions."""
    found = books.find(data["root"])
    novels = {name: text for name, text, _ in books.read(found)}
    counts = Counter({f"left out: {reason}": n for reason, n in found.skipped.items()})
    if len(novels) < 2:
        raise UserError(f"data.root={data['root']}: holds {len(novels)} books; 2 or more are needed, to train and to validate")
    valid = held_out(novels, VALID, lambda name: fold(0, "novels", name))
    test = read_test(user_file(data["test_root"], TEST_FILE, "data.test_root")) if data["test_root"] else []
    in_order = [("test", text) for text in test]
    in_order += [("valid", novels[name]) for name in sorted(valid)]
    in_order += [("train", novels[name]) for name in sorted(novels.keys() - valid)]
    print(f"generating cloze questions from {len(in_order)} books (about a second for two)", file=sys.stderr)
    hashes = [_hashes(text) for _, text in tqdm(in_order, "comparing books", unit=" books", disable=None)]
    unique = duplicates.distinct(hashes)
    common = duplicates.common_sentences(unique)
    repeats = duplicates.overlapping([np.setdiff1d(document, common) for document in unique])
    counts["left out: duplicates"] = int(repeats.sum())
    counts["texts"] = int((~repeats).sum())
    if len(common):
        counts["left out: sentences common to most books"] = sum(int(np.isin(h, common).sum()) for h in hashes)

    def texts() -> Iterator[tuple[str, Text]]:
        books_left = [(*book, h) for book, h, repeat in zip(in_order, hashes, repeats, strict=True) if not repeat]
        for split, text, hashes_N in tqdm(books_left, "generating questions", unit=" books", disable=None):
            sentences = cased_sentences(text)
            if len(common):
                sentences = [s for s, drop in zip(sentences, np.isin(hashes_N, common), strict=True) if not drop]
            names = name_words(sentences, at_least=5, acronyms=False)
            yield split, [marked(s, names, partial(max, key=names.__getitem__)) for s in sentences]

    def choose(text: Text, split: str) -> list[tuple[int, ...]]:
        return passages(text, data["entities"])

    splits = ("train", "valid", "test") if test else ("train", "valid")
    return generated.generate("novels", texts(), choose, splits, data["entities"], data["vocabulary_size"], counts)


def _hashes(text: str) -> np.ndarray:
    return np.array([duplicates.sentence_hash(s) for s in cased_sentences(text)], np.uint64)


def passages(text: Text, entities: int) -> list[tuple[int, ...]]:
    """Of each 25 consecutive sentences the four with the most names, chosen greedily by the number of new names.

    Ties go to the sentence with more names, then to the shorter, then to the earlier one. Where no four sentences fit into a
    passage, or they have too few or too many names, there is no passage.
    """
    found = []
    for start in range(0, len(text), SPAN):
        left = {n: set(names_of(text[n])) for n in range(start, min(start + SPAN, len(text))) if fits(text[n])}
        named, chosen, room = set[str](), list[int](), TOKENS
        while len(chosen) < SENTENCES and (left := {n: names for n, names in left.items() if len(text[n]) <= room}):
            best = max(left, key=lambda n: (len(left[n] - named), len(left[n]), -len(text[n])))
            chosen.append(best)
            named |= left.pop(best)
            room -= len(text[best])
        if len(chosen) == SENTENCES and NAMES <= len(named) <= entities:
            found.append(tuple(sorted(chosen)))
    return found
