"""Questions built from raw novels: a folder of one .txt a book, or .tar.xz archives of such."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnexp.data.cloze import built as cloze_built
from lnexp.data.cloze.built import NAMES, SENTENCES, TOKENS, Text, fits, names_of
from lnexp.data.cloze.draft import Prepared, stamps
from lnexp.data.cloze.names import Seen, held_out, marked, name_words, sentences
from lnexp.data.text import books
from lnexp.errors import UserError
from lnexp.seeding import fold

VALID = 10  # one book in so many is for validation
SPAN = 25  # a passage is taken from each stretch of so many sentences
TEST_TITLE = "_BOOK_TITLE_"  # begins the line before each book of cbt_test.txt, the raw text of the Children's Book Test


def identity(data: Mapping[str, Any]) -> list[object]:
    """What the set follows from, apart from the keys of `data`: its files."""
    return [stamps(books.files(data["root"])[1]), stamps([test_file(data["test_root"])] if data["test_root"] else [])]


def test_file(test: str | Path) -> Path:
    """The file of test books."""
    path = Path(test).expanduser()
    if not path.is_file():
        raise UserError(
            f"data.test_root={test}: there is no such file; it should hold books, a line '{TEST_TITLE} : title' before each"
        )
    return path


def read_test(path: Path) -> list[tuple[str, str]]:
    """(title, text) of each book of a file that has a sentence a line."""
    books = path.read_text(encoding="utf-8", errors="replace").split(TEST_TITLE)[1:]
    if not books:
        raise UserError(f"{path}: no line begins with {TEST_TITLE}; it should hold books, '{TEST_TITLE} : title' before each")
    titled = (book.partition("\n") for book in books)
    return [(title.strip(" :"), text.replace("\n", "\n\n")) for title, _, text in titled]


def prepare(data: Mapping[str, Any], data_dir: Path) -> Prepared:
    """Split by book, names found book by book, duplicates left out: a test or validation book is never trained on as well."""
    novels = {name: text for name, text, _ in books.read(*books.files(data["root"]))}
    if len(novels) < 2:
        raise UserError(f"data.root={data['root']}: holds {len(novels)} books; 2 or more are needed, to train and to validate")
    valid = held_out(novels, VALID, lambda name: fold(0, "novels", name))
    test = read_test(test_file(data["test_root"])) if data["test_root"] else []
    counts, seen = Counter[str](), Seen()
    in_order = [("test", text) for _, text in test]
    in_order += [("valid", novels[name]) for name in sorted(valid)]
    in_order += [("train", novels[name]) for name in sorted(novels.keys() - valid)]  # last: what is seen twice is not trained on

    def texts() -> Iterator[tuple[str, Text]]:
        for split, text in tqdm(in_order, "building cloze questions", unit=" books", disable=None):
            found = sentences(text)
            if seen.before(found):
                counts["left out: duplicates"] += 1
                continue
            counts["texts"] += 1
            names = name_words(found, at_least=5, acronyms=False)
            yield split, [marked(s, names, partial(max, key=names.__getitem__)) for s in found]

    def choose(text: Text, split: str) -> list[tuple[int, ...]]:
        return passages(text, data["entities"])

    print(f"building cloze questions from {len(novels) + len(test)} books (about a second for three)", file=sys.stderr)
    splits = ("train", "valid", "test") if test else ("train", "valid")
    return cloze_built.prepare("novels", texts(), choose, splits, data["entities"], data["vocabulary_size"], counts)


def passages(text: Text, entities: int) -> list[tuple[int, ...]]:
    """Of each stretch of 25 sentences the four that name the most: one by one the sentence that adds the most new names.

    Of equal ones that with more names, then the shorter, then the earlier counts. Stretches where no four sentences fit into a
    passage, or where those have too few or too many names, are passed over.
    """
    found = []
    for start in range(0, len(text), SPAN):
        left = {n: set(names_of(text[n])) for n in range(start, min(start + SPAN, len(text))) if fits(text[n])}
        named, picked, room = set[str](), list[int](), TOKENS
        while len(picked) < SENTENCES and (left := {n: names for n, names in left.items() if len(text[n]) <= room}):
            best = max(left, key=lambda n: (len(left[n] - named), len(left[n]), -len(text[n])))
            picked.append(best)
            named |= left.pop(best)
            room -= len(text[best])
        if len(picked) == SENTENCES and NAMES <= len(named) <= entities:
            found.append(tuple(sorted(picked)))
    return found
