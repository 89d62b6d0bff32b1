"""IAM-OnDB (Liwicki and Bunke 2005) as distributed: lineStrokes/**.xml, ascii/**.txt and the four split lists.

Both folders may also lie in archives, which are read as streams and never unpacked.
"""

from __future__ import annotations

import lzma
import os
import re
import sys
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.parsers import expat

import numpy as np
from tqdm import tqdm

from lnexp.data.sources import user_folder
from lnexp.data.strokes.lines import Line, offsets
from lnexp.data.text.books import decompressed
from lnexp.data.workers import cores, process_pool
from lnexp.errors import UserError

LISTS = {"train": "trainset.txt", "valid": "testset_v.txt", "other": "testset_t.txt", "test": "testset_f.txt"}
FOLDERS = ("lineStrokes", "ascii")
ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|txz|tbz2?)$", re.IGNORECASE)
WHAT = "IAM-OnDB: lineStrokes/**.xml and ascii/**.txt (or archives of them), and the lists trainset.txt, testset_v.txt, ..."
WHERE = "fki.tic.heia-fr.ch/databases/iam-on-line-handwriting-database, after registration, for non-commercial research"
GROUP = 200  # files that a process parses at a time


class Parsed(NamedTuple):
    """A file of the data set.

    Attributes:
        name: file name without suffix.
        offsets: of a line, int16 [n, 3]; None for a transcript.
        texts: of a transcript, one for each line.
    """

    name: str
    offsets: np.ndarray | None
    texts: list[str]


def files(root: str | Path) -> dict[str, Path]:
    """The files that are read: name relative to the folder -> path.

    Raises:
        UserError: the folder, the split lists, or lineStrokes and ascii are missing.
    """
    folder = user_folder(root, [], WHAT, WHERE)
    archives = {path.name: path for path in sorted(folder.iterdir()) if ARCHIVE.search(path.name)}
    present = all((folder / name).is_dir() for name in FOLDERS)
    needs = [*LISTS.values(), *(() if present or archives else FOLDERS)]
    user_folder(root, needs, WHAT, WHERE, gzipped=False)
    found = {name: folder / name for name in LISTS.values()}
    if not present:
        return found | archives
    for top, suffix in zip(FOLDERS, (".xml", ".txt"), strict=True):
        for parent, folders, names in os.walk(folder / top):
            folders.sort()
            paths = [Path(parent, name) for name in sorted(names) if name.endswith(suffix) and not name.startswith(".")]
            found |= {path.relative_to(folder).as_posix(): path for path in paths}
    return found


def lines(root: str | Path) -> tuple[list[Line], Counter[str]]:
    """All lines that have a text and are in a split list, by name; and how many were left out, and why.

    Raises:
        UserError: a file that cannot be read or is not of the format; the message names file and line.
    """
    found = files(root)
    split_of = _split_of({split: found[name] for split, name in LISTS.items()})
    running: deque[Future[list[Parsed]]] = deque()
    parsed: list[Parsed] = []
    print("Preparing IAM-OnDB: parsing its files on all cores, once", file=sys.stderr)
    with process_pool() as pool, tqdm(desc="iam_ondb", unit=" files", disable=None) as bar:
        for group in _grouped(_contents(found)):
            if len(running) > 2 * cores():  # bounds the files in memory
                parsed += running.popleft().result()
            running.append(pool.submit(_parse_all, group))
            bar.update(len(group))
        for future in running:
            parsed += future.result()
    text_of = {f"{file.name}-{k:02}": text for file in parsed if file.offsets is None for k, text in enumerate(file.texts, 1)}
    left_out: Counter[str] = Counter()
    taken = []
    for file in sorted(parsed, key=lambda file: file.name):
        if file.offsets is None:
            continue
        split, text = split_of.get(file.name.rpartition("-")[0]), text_of.get(file.name, "")
        if split is None:
            left_out["lines in no split list"] += 1
        elif not text:
            left_out["lines without text"] += 1
        elif not len(file.offsets):
            left_out["lines of fewer than two points"] += 1
        else:
            taken.append(Line(file.name, split, file.offsets, text))
    return taken, left_out


def _split_of(lists: dict[str, Path]) -> dict[str, str]:
    """Name of a form, such as a01-000u -> its split."""
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        try:
            names = path.read_text("ascii").split()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a list of names ({error})") from error
        if not names:
            raise UserError(f"{path}: empty")
        for name in names:
            if split_of.setdefault(name, split) != split:
                raise UserError(f"{path}: {name} is in {LISTS[split_of[name]]}, too")
    return split_of


def _contents(found: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of all strokes and transcripts."""
    for name, path in found.items():
        if ARCHIVE.search(name):
            yield from _members(path)
        elif name not in LISTS.values():
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file, decompressed(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                wanted = inside.suffix in (".xml", ".txt") and set(FOLDERS) & set(inside.parts)
                if wanted and not inside.name.startswith(".") and (content := archive.extractfile(member)):
                    yield f"{path}/{member.name}", content.read()
            while stream.read(1 << 20):  # to the end, where the checksum is
                pass
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not a complete tar archive ({error})") from error


def _grouped(contents: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    group: list[tuple[str, bytes]] = []
    for file in contents:
        group.append(file)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _parse_all(group: list[tuple[str, bytes]]) -> list[Parsed]:
    """In a worker."""
    parsed = []
    for path, raw in group:
        name = PurePosixPath(path).stem
        if path.endswith(".xml"):
            parsed.append(Parsed(name, offsets(strokes(path, raw)), []))
        else:
            parsed.append(Parsed(name, None, transcript(path, raw)))
    return parsed


def strokes(path: str, raw: bytes) -> list[np.ndarray]:
    """The strokes of a line, int [n, 2] each. Entities and document types are refused.

    Raises:
        UserError: not well-formed, or a point without whole x and y; the message names file and line.
    """
    found: list[list[tuple[int, int]]] = []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Stroke":
            found.append([])
        elif tag == "Point":
            if not found:
                raise ValueError("a Point outside of any Stroke")
            found[-1].append((int(attributes["x"]), int(attributes["y"])))

    def refuse(*_: object) -> None:
        raise ValueError("a document type, which may define entities, is not read")

    parser.StartElementHandler, parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = start, refuse, refuse
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise UserError(f"{path}: line {error.lineno}: not well-formed XML ({expat.ErrorString(error.code)})") from error
    except KeyError as error:
        raise UserError(f"{path}: line {parser.CurrentLineNumber}: a Point without {error.args[0]}") from error
    except ValueError as error:
        raise UserError(f"{path}: line {parser.CurrentLineNumber}: {error}") from error
    return [np.array(stroke, int).reshape(-1, 2) for stroke in found]


def transcript(path: str, raw: bytes) -> list[str]:
    """The lines of a form, from the section CSR, which breaks them as they are written (the section OCR does not)."""
    _, found, section = raw.decode("latin1").partition("CSR:")
    if not found:
        raise UserError(f"{path}: no section CSR:, where the text of each line should be")
    return [line.strip() for line in section.replace("\r", "").strip().split("\n")]
