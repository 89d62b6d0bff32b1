"""From documents to numbered sentences on disk: words once, in parallel processes and part by part, then one pass per vocabulary.

Each part of about two million characters becomes a file of its own, with numbers that count its own words: a killed preparation
goes on behind the last whole part, and another vocabulary size asks for no second reading. Words never lie in memory all at once.

Shapes: N sentences of all documents, W words of a part, V words of a vocabulary.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lnexp.data.prose.sources import Piece, Source
from lnexp.data.text.sentences import sentences
from lnexp.data.text.vocabulary import UNKNOWN, Vocabulary, tokenize
from lnexp.errors import UserError
from lnexp.files import write_whole
from lnexp.seeding import fold

PART = 2_000_000  # characters
HELD_OUT, HELD_OUT_LINES = 30, 1000  # one document, or one line of a list of sentences, in so many is for validation
PRINTED = 8  # sentences of so many words or more tell whether two documents are the same text
REPEATED = 0.1  # a document is left out if this share of those stands in others
SPLITS = ("train", "valid", "left_out")


class Span(NamedTuple):
    """Sentences start to stop of one document, and which of SPLITS they belong to."""

    document: str
    start: int
    stop: int
    split: str


def read(source: Source, folder: Path) -> None:
    """Write parts/*.npz, lengths.npy (words of each sentence, int32 [N]) and, last, spans.json."""
    _write_parts(source, folder / "parts")
    names, sizes, prints_N, lengths_N = [], [], [], []
    for part in _parts(folder):
        names += json.loads(part["documents"].tobytes())
        sizes += part["sizes"].tolist()
        prints_N.append(part["prints_N"])
        lengths_N.append(part["lengths_N"])
    if not sum(sizes):
        raise UserError(f"data={source.name}: there is not one sentence in it")
    _save(folder / "lengths.npy", np.concatenate(lengths_N))
    spans = _spans(names, sizes)
    spans = last_lines_held_out(spans) if source.lines else documents_held_out(spans, np.concatenate(prints_N))
    write_whole(folder / "spans.json", json.dumps(spans).encode())


def _write_parts(source: Source, parts: Path) -> None:
    """Every part that is not there yet, in as many processes as this one may use cores."""
    parts.mkdir(exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"Preparing {source.name} on {cores} cores; stopped and started again, it goes on where it was", file=sys.stderr)
    running: deque[Future] = deque()
    with (
        ProcessPoolExecutor(cores, initializer=_end_with_parent) as pool,
        tqdm(total=100, unit="%", desc=source.name, disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar,
    ):
        for number, pieces in enumerate(_grouped(source.pieces())):
            path = parts / f"{number:05}.npz"
            if not path.exists():
                if len(running) > 2 * cores:  # so that reading does not run ahead of the work
                    running.popleft().result()
                running.append(pool.submit(_write_part, path, pieces, source.lines))
            bar.update(100 * pieces[-1].done - bar.n)
        for part in running:
            part.result()


def _end_with_parent() -> None:
    """In a worker: end when the process that asked for the work is killed, instead of waiting for more of it for ever."""

    parent = os.getppid()  # not multiprocessing's: under joblib its parents cannot be waited for

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _grouped(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces in lists of at least PART characters, but for the last."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece.text)
        if size >= PART:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_part(path: Path, pieces: list[Piece], lines: bool) -> None:
    """One part: its words, their numbers sentence after sentence, and what tells its documents apart."""
    number_of: dict[str, int] = {}
    numbers, lengths, prints, sizes = array("I"), array("i"), array("Q"), []
    for piece in pieces:
        before = len(lengths)
        for sentence in piece.text.split("\n") if lines else sentences(piece.text):
            words = sentence.split() if lines else tokenize(sentence)
            if words:
                numbers.extend(number_of.setdefault(word, len(number_of)) for word in words)
                lengths.append(len(words))
                if not lines:
                    prints.append(_print(words) if len(words) >= PRINTED else 0)
        sizes.append(len(lengths) - before)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        numbers=np.array(numbers, np.uint16 if len(number_of) <= 2**16 else np.uint32),
        lengths_N=np.array(lengths, np.int32),
        prints_N=np.array(prints, np.uint64),
        sizes=np.array(sizes, np.int64),
        words=np.frombuffer(json.dumps(list(number_of)).encode(), np.uint8),
        documents=np.frombuffer(json.dumps([piece.document for piece in pieces]).encode(), np.uint8),
    )
    write_whole(path, buffer.getvalue())


def _print(words: list[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def _parts(folder: Path) -> Iterator[np.lib.npyio.NpzFile]:
    for path in sorted((folder / "parts").glob("*.npz")):
        with np.load(path) as part:
            yield part


def _save(path: Path, values: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values)
    write_whole(path, buffer.getvalue())


def _spans(names: list[str], sizes: list[int]) -> list[Span]:
    """One span a document, the pieces of a document being neighbours of the same name."""
    spans, stop = [], 0
    for name, group in groupby(zip(names, sizes, strict=True), key=lambda pair: pair[0]):
        start, stop = stop, stop + sum(size for _, size in group)
        spans.append(Span(name, start, stop, "train"))
    return spans


def last_lines_held_out(spans: list[Span]) -> list[Span]:
    """The last of all lines are for validation."""
    total = spans[-1].stop
    cut = total - max(1, total // HELD_OUT_LINES)
    train = [s._replace(stop=min(s.stop, cut)) for s in spans if s.start < cut]
    return train + [s._replace(start=max(s.start, cut), split="valid") for s in spans if s.stop > cut]


def documents_held_out(spans: list[Span], prints_N: np.ndarray) -> list[Span]:
    """Some documents are for validation, whichever have the least numbers, and those that repeat others are left out.

    Collections hold the same text twice (two editions of a novel, an article in two sections): what is held out must not be
    trained on. A document repeats others if a share REPEATED of its different sentences of PRINTED words or more is also in
    documents before it, those held out coming first.
    """
    if len(spans) < 2:
        raise UserError(f"data: {spans[0].document} is the only document; another is needed, to be held out")
    order = sorted(range(len(spans)), key=lambda d: (fold(0, "prose", spans[d].document), d))
    held_out = set(order[: max(1, round(len(spans) / HELD_OUT))])
    prints = [np.unique(prints_N[spans[d].start : spans[d].stop]) for d in order]
    prints = [p[p > 0] for p in prints]
    owner = np.repeat(np.arange(len(order)), [len(p) for p in prints])
    _, first, group = np.unique(np.concatenate(prints), return_index=True, return_inverse=True)
    repeated = np.bincount(owner, owner[first][group] < owner, len(order)) / [max(1, len(p)) for p in prints]
    left_out = {d for d, share in zip(order, repeated, strict=True) if share >= REPEATED}
    return [s._replace(split=SPLITS[2 if d in left_out else d in held_out]) for d, s in enumerate(spans)]


def encode(folder: Path, target: Path, vocabulary_size: int) -> None:
    """Write vocabulary.json, numbers.npy (uint16, or int32 for a large vocabulary) and, last, counts.json for one size."""
    spans = [Span(*s) for s in json.loads((folder / "spans.json").read_bytes())]
    lengths_N = np.load(folder / "lengths.npy", mmap_mode="r")
    split_N = np.empty(len(lengths_N), np.int8)
    for span in spans:
        split_N[span.start : span.stop] = SPLITS.index(span.split)

    counts: Counter[str] = Counter()
    for words, numbers, split in _words(folder, split_N):
        found = np.bincount(numbers[split == 0], minlength=len(words))
        counts.update({words[n]: int(found[n]) for n in np.flatnonzero(found)})
    commonest = sorted(counts.keys() - set(Vocabulary.SPECIALS), key=lambda word: (-counts[word], word))
    vocabulary = Vocabulary([*Vocabulary.SPECIALS, *commonest[: vocabulary_size - len(Vocabulary.SPECIALS)]])
    target.mkdir(exist_ok=True)
    vocabulary.save(target / "vocabulary.json")

    total, at = int(lengths_N.sum(dtype=np.int64)), 0
    dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32
    unfinished = target / "numbers.npy.tmp"
    encoded = np.lib.format.open_memmap(unfinished, "w+", dtype, (total,))
    of_split, unknown_of_split = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for words, numbers, split in _words(folder, split_N):
        number_V = np.array(vocabulary.encode(words, end=False), dtype)
        encoded[at : at + len(numbers)] = now = np.maximum(number_V, UNKNOWN)[numbers]  # a text may say "<end>"; it ends nothing
        of_split += np.bincount(split, minlength=3)
        unknown_of_split += np.bincount(split[now == UNKNOWN], minlength=3)
        at += len(numbers)
    encoded.flush()
    os.replace(unfinished, target / "numbers.npy")
    told = {
        name: {
            "documents": sum(s.split == name for s in spans),
            "sentences": int((split_N == k).sum()),
            "words": int(of_split[k]),
            "unknown": int(unknown_of_split[k]),
        }
        for k, name in enumerate(SPLITS)
    }
    write_whole(target / "counts.json", json.dumps(told, indent=1).encode())


def _words(folder: Path, split_N: np.ndarray) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """(words, their numbers in the order of the text, the split that each belongs to) of every part."""
    at = 0
    for part in _parts(folder):
        lengths = part["lengths_N"]
        split = np.repeat(split_N[at : at + len(lengths)], lengths)
        yield json.loads(part["words"].tobytes()), part["numbers"], split
        at += len(lengths)
