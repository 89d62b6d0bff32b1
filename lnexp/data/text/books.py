"""Plain-text books of the user's own: one UTF-8 .txt file a book, in folders or in archives, which are never unpacked to disk."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lnexp.data.sources import user_folder
from lnexp.errors import UserError

BOOKS = "plain-text books, one UTF-8 .txt file a book, in folders or .tar.* archives"
BOOKS_WHERE = (
    "such as ELTeC (github.com/COST-ELTeC/ELTeC-eng) or CLiC (github.com/birmingham-ccr/corpora), novels in the public domain"
)


def files(
    given: str | Path, patterns: tuple[str, ...] = ("*.txt", "*.tar.*"), what: str = BOOKS, where: str = BOOKS_WHERE
) -> tuple[Path, list[Path]]:
    """The folder that names of documents start from, and the files at `given`, a folder or one file, by name."""
    root = Path(given).expanduser()
    if root.is_file():
        return root.parent, [root]
    folder = user_folder(given, [], what, where)
    paths = sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise UserError(f"data.root={given}: no {' or '.join(patterns)} in it; it should hold {what} ({where})")
    return folder, paths


def read(root: Path, paths: list[Path]) -> Iterator[tuple[str, str, float]]:
    """(name, text, share of all bytes read so far) of every book, those in archives member by member, in the archive's order."""
    total, before = sum(p.stat().st_size for p in paths), 0
    for path in paths:
        name = path.relative_to(root).as_posix()
        size = path.stat().st_size
        if path.suffix == ".txt":
            yield _book(name, path.read_bytes(), (before + size) / total if total else 1)
        else:
            for member, raw, done in _members(path):
                yield _book(f"{name}/{member}", raw, (before + done) / total)
        before += size


def _book(name: str, raw: bytes, done: float) -> tuple[str, str, float]:
    text = decoded(raw, name, 1)
    if not text.strip():
        raise UserError(f"{name}: an empty book; take it out of data.root")
    return name, text, done


def _members(path: Path) -> Iterator[tuple[str, bytes, int]]:
    """(name, content, bytes of the archive read so far) of every text file in it, read as a stream."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.suffix == ".txt" and not name.name.startswith(".") and (content := archive.extractfile(member)):
                    yield member.name, content.read(), file.tell()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: not a whole tar archive ({error})") from error


def decoded(raw: bytes, name: str, first_line: int) -> str:
    """The text of UTF-8 bytes, of which the first is in line `first_line` of the file `name`."""
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw[: error.start].count(b"\n")
        raise UserError(f"{name}: not UTF-8 in line {line} (byte 0x{raw[error.start]:02x}); convert it first") from error
