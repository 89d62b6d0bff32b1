"""Plain-text books of the user's: one UTF-8 .txt file per book, in folders or in archives, which are never unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from lnexp.data.sources import NAMED, read_gzipped, user_folder, user_path
from lnexp.errors import UserError

BOOKS = "plain-text books, one UTF-8 .txt file per book, in folders or .tar.* archives"
BOOKS_WHERE = (
    "such as ELTeC (github.com/COST-ELTeC/ELTeC-eng) or CLiC (github.com/birmingham-ccr/corpora), novels in the public domain"
)
TEXT = re.compile(r"\.txt(\.gz)?$", re.IGNORECASE)
ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|txz|tbz2?)$", re.IGNORECASE)


@dataclass
class Files:
    """The text files and archives of a folder.

    Attributes:
        paths: name relative to the folder -> path, sorted.
        skipped: reason -> number of files that are not read.
    """

    paths: dict[str, Path]
    skipped: Counter[str] = field(default_factory=Counter)


def find(given: str | Path, archives: bool = True, what: str = BOOKS, where: str = BOOKS_WHERE) -> Files:
    """The text files, and archives of such, at `given`: a folder, whose subfolders and symbolic links are followed, or one file.

    Raises:
        UserError: there is no such folder, or no such file in it.
    """
    root = user_path(given)
    if root.is_file():
        return Files({root.name: root})
    folder, found, visited = user_folder(given, [], what, where), Files({}), set[str]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:  # a symbolic link to a folder above it
            folders.clear()
            continue
        visited.add(real)
        for name in names:
            path = Path(parent, name)
            relative = path.relative_to(folder)
            if is_hidden(relative):
                found.skipped["hidden files"] += 1
            elif not (TEXT.search(name) or (archives and ARCHIVE.search(name))):
                found.skipped[f"files {suffix_of(name)}"] += 1
            elif not path.is_file():
                found.skipped["broken links"] += 1
            else:
                found.paths[relative.as_posix()] = path
    found.paths = {name: found.paths[name] for name in sorted(found.paths, key=lambda name: name.split("/"))}
    if not found.paths:
        kinds = ".txt or .tar.* file" if archives else ".txt file"
        raise UserError(f"data.root={given}: no {kinds} in it; it should hold {what} ({where})")
    return found


def is_hidden(path: PurePosixPath | Path) -> bool:
    """Whether a relative path is a hidden file, or lies in a hidden folder, of Unix, macOS or Jupyter."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)


def suffix_of(name: str) -> str:
    """How a file's name ends, for messages."""
    suffix = "".join(Path(name).suffixes[-2:])
    return f"ending with {suffix}" if suffix else "without a suffix"


def read(found: Files) -> Iterator[tuple[str, str, float]]:
    """(name, text, share of all bytes read so far) of every book, those of an archive in the archive's order.

    Adds to `found.skipped`.

    Raises:
        UserError: a damaged file or archive, text that is not UTF-8, or empty books; all empty ones are named.
    """
    total, before = sum(path.stat().st_size for path in found.paths.values()), 0
    empty = []
    for name, path in found.paths.items():
        size = path.stat().st_size
        if TEXT.search(name) or not size:
            books: Iterator[tuple[str, bytes, int]] = iter([(name, read_gzipped(path), size)])
        else:
            books = _members(name, path, found.skipped)
        for book, raw, done in books:
            text = decoded(raw, book, 1)
            if text.strip():
                yield book, text, (before + done) / total
            else:
                empty.append(book)
        before += size
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        raise UserError(f"{', '.join(empty[:NAMED])}{more}: an empty book; take it out of data.root")


def _members(name: str, path: Path, skipped: Counter[str]) -> Iterator[tuple[str, bytes, int]]:
    """(name, content, bytes of the archive read so far) of every text file in an archive, which is read as a stream."""
    try:
        with path.open("rb") as file, decompressed(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                inner = PurePosixPath(member.name)
                if not member.isfile():
                    continue
                if is_hidden(inner):
                    skipped["hidden files"] += 1
                elif not TEXT.search(inner.name):
                    skipped[f"files {suffix_of(inner.name)}"] += 1
                elif content := archive.extractfile(member):
                    raw = content.read()
                    yield f"{name}/{member.name}", gzip.decompress(raw) if inner.suffix.lower() == ".gz" else raw, file.tell()
            while stream.read(1 << 20):  # to the end, where the checksum is
                pass
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not a complete tar archive ({error})") from error


def decompressed(file: BinaryIO) -> BinaryIO:
    """A stream of the decompressed content, whose checksums are verified. (tarfile's own streams do not verify those of gzip.)"""
    start = file.read(6)
    file.seek(0)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open)):
        if start.startswith(magic):
            return cast(BinaryIO, opener(file))
    return file


def decoded(raw: bytes, name: str, first_line: int) -> str:
    """The text of UTF-8 bytes, the first of which is in line `first_line` of the file `name`. A byte order mark is dropped."""
    if first_line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name}: UTF-16, must be UTF-8; convert it with iconv -f utf-16 -t utf-8")
    try:
        text = raw.decode()
        return text.lstrip("\ufeff") if first_line == 1 else text
    except UnicodeDecodeError as error:
        line = first_line + raw[: error.start].count(b"\n")
        raise UserError(
            f"{name}: not UTF-8 in line {line} (byte 0x{raw[error.start]:02x}); convert it with iconv -f latin1 -t utf-8"
        ) from error


def listed(counts: Counter[str]) -> str:
    """Counts as text: "3 hidden files, 1 files ending with .pdf"."""
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n)
