"""Questions built from raw novels: a folder of one .txt a book, or .tar.xz archives of such."""

from __future__ import annotations

import lzma
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnexp.data import cloze_built
from lnexp.data.cloze_built import NAMES, SENTENCES, TOKENS, Text, fits, names_of
from lnexp.data.cloze_draft import Prepared, stamps
from lnexp.data.cloze_names import Seen, held_out, marked, name_words, sentences
from lnexp.errors import UserError
from lnexp.seeding import fold

VALID = 10  # one book in so many is for validation
SPAN = 25  # a passage is taken from each stretch of so many sentences
TEST_TITLE = "_BOOK_TITLE_"  # begins the line before each book of cbt_test.txt, the raw text of the Children's Book Test


def identity(data: Mapping[str, Any]) -> list[object]:
    """What the set follows from, apart from the keys of `data`: its files."""
    return [stamps(files(data["root"])), stamps([test_file(data["test_root"])] if data["test_root"] else [])]


def files(root: str | Path) -> list[Path]:
    """The books and archives at data.root, which is one of them or a folder that holds them, at any depth."""
    path = Path(root).expanduser()
    if not path.exists():
        raise UserError(
            f"data.root={root}: there is no such file or folder; it should hold novels, one .txt a book, or .tar.xz of such"
        )
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    found = [p for p in found if p.is_file() and p.name.endswith((".txt", ".tar.xz"))]
    if not found:
        raise UserError(f"data.root={root}: holds no .txt and no .tar.xz; it should hold novels, one .txt a book")
    return found


def test_file(test: str | Path) -> Path:
    """The file of test books."""
    path = Path(test).expanduser()
    if not path.is_file():
        raise UserError(
            f"data.test_root={test}: there is no such file; it should hold books, a line '{TEST_TITLE} : title' before each"
        )
    return path


def read(root: str | Path) -> Iterator[tuple[str, str]]:
    """(name, text) of each book; the name is its path from data.root on, so that it is the same on every machine."""
    top = Path(root).expanduser()
    for path in files(root):
        name = path.name if path == top else path.relative_to(top).as_posix()
        if path.suffix == ".txt":
            yield name, path.read_text(encoding="utf-8", errors="replace")
            continue
        try:
            with tarfile.open(path, "r:xz") as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.name.endswith(".txt") else None
                    if file is not None:
                        yield f"{name}/{member.name}", file.read().decode("utf-8", errors="replace")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise UserError(f"{path}: not a whole .tar.xz archive ({error})") from error


def read_test(path: Path) -> list[tuple[str, str]]:
    """(title, text) of each book of a file that has a sentence a line."""
    books = path.read_text(encoding="utf-8", errors="replace").split(TEST_TITLE)[1:]
    if not books:
        raise UserError(f"{path}: no line begins with {TEST_TITLE}; it should hold books, '{TEST_TITLE} : title' before each")
    titled = (book.partition("\n") for book in books)
    return [(title.strip(" :"), text.replace("\n", "\n\n")) for title, _, text in titled]


def prepare(data: Mapping[str, Any], data_dir: Path) -> Prepared:
    """Split by book, names found book by book, duplicates left out: a test or validation book is never trained on as well."""
    books = dict(read(data["root"]))
    if len(books) < 2:
        raise UserError(f"data.root={data['root']}: holds {len(books)} books; 2 or more are needed, to train and to validate")
    valid = held_out(books, VALID, lambda name: fold(0, "novels", name))
    test = read_test(test_file(data["test_root"])) if data["test_root"] else []
    counts, seen = Counter[str](), Seen()
    in_order = [("test", text) for _, text in test]
    in_order += [("valid", books[name]) for name in sorted(valid)]
    in_order += [("train", books[name]) for name in sorted(books.keys() - valid)]  # last: what is seen twice is not trained on

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

    print(f"building cloze questions from {len(books) + len(test)} books (about a second for three)", file=sys.stderr)
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
