"""Tokenizes documents in parallel, one file per part, then encodes all parts with a vocabulary.

A part holds about two million characters, as ids of the part's own words. A preparation that was killed continues after the last
complete part, and another vocabulary size does not read the documents again. The tokens are never all in memory.

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
from itertools import groupby
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lnexp.data.prose.documents import Chunk, Source
from lnexp.data.text import duplicates
from lnexp.data.text.books import listed
from lnexp.data.text.sentences import sentences
from lnexp.data.text.vocabulary import UNKNOWN, Vocabulary, tokenize
from lnexp.errors import UserError
from lnexp.files import write_whole
from lnexp.seeding import fold

PART = 2_000_000  # characters
HELD_OUT, HELD_OUT_LINES = 30, 1000  # 1 / 30 of the documents, or the last 1 / 1000 of the lines, are the validation set
SPLITS = ("train", "valid", "left_out")


class Span(NamedTuple):
    """Sentences start to stop of one document, and their split."""

    document: str
    start: int
    stop: int
    split: str


def tokenize_documents(source: Source, folder: Path) -> None:
    """Write parts/*.npz, lengths.npy (tokens of each sentence, int32 [N]) and, last, spans.json."""
    _write_parts(source, folder / "parts")
    names, sizes, hashes_N, lengths_N = [], [], [], []
    for part in _parts(folder):
        names += json.loads(part["documents"].tobytes())
        sizes += part["sizes"].tolist()
        hashes_N.append(part["prints_N"])
        lengths_N.append(part["lengths_N"])
    if not sum(sizes):
        raise UserError(f"data={source.name}: there is not one sentence in it")
    np.save(folder / "lengths.npy", np.concatenate(lengths_N))
    spans = _spans(names, sizes)
    spans = hold_out_lines(spans) if source.lines else hold_out_documents(spans, np.concatenate(hashes_N))
    _report(source, spans)
    write_whole(folder / "spans.json", json.dumps(spans).encode())


def _report(source: Source, spans: list[Span]) -> None:
    """One line with the number of documents used and left out."""
    of = {split: {s.document for s in spans if s.split == split} for split in SPLITS}
    left_out = Counter(source.skipped)
    left_out["documents that repeat others"] = len(of["left_out"] - of["train"] - of["valid"])
    left_out["sentences common to most documents"] = sum(
        s.stop - s.start for s in spans if s.split == "left_out" and s.document in of["train"] | of["valid"]
    )
    print(
        f"{source.name}: {len(of['train'])} documents for training, {len(of['valid'])} for validation; "
        f"left out: {listed(left_out) or 'none'}",
        file=sys.stderr,
    )


def _write_parts(source: Source, parts: Path) -> None:
    """Write every part that does not exist yet, in as many processes as there are cores for this one."""
    parts.mkdir(exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"Preparing {source.name} on {cores} cores; after an interruption it continues where it was", file=sys.stderr)
    running: deque[Future] = deque()
    with (
        ProcessPoolExecutor(cores, initializer=_end_with_parent) as pool,
        tqdm(total=100, unit="%", desc=source.name, disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar,
    ):
        for number, chunks in enumerate(_grouped(source.chunks())):
            path = parts / f"{number:05}.npz"
            if not path.exists():
                if len(running) > 2 * cores:  # bounds the text in memory
                    running.popleft().result()
                running.append(pool.submit(_write_part, path, chunks, source.lines))
            bar.update(100 * chunks[-1].done - bar.n)
        for part in running:
            part.result()


def _end_with_parent() -> None:
    """In a worker: exit when the parent process is killed."""
    parent = os.getppid()  # multiprocessing.parent_process cannot be waited for under joblib

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _grouped(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks in lists of at least PART characters, but for the last one."""
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        group.append(chunk)
        size += len(chunk.text)
        if size >= PART:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_part(path: Path, chunks: list[Chunk], lines: bool) -> None:
    """Write one part: its words, their ids sentence by sentence, and the hashes of its sentences."""
    id_of: dict[str, int] = {}
    ids, lengths, hashes, sizes = array("I"), array("i"), array("Q"), []
    for chunk in chunks:
        before = len(lengths)
        for sentence in chunk.text.split("\n") if lines else sentences(chunk.text):
            words = sentence.split() if lines else tokenize(sentence)
            if words:
                ids.extend(id_of.setdefault(word, len(id_of)) for word in words)
                lengths.append(len(words))
                if not lines:
                    hashes.append(duplicates.sentence_hash(words))
        sizes.append(len(lengths) - before)
    buffer = io.BytesIO()
    np.savez(  # the names `numbers` and `prints_N` are kept: prepared sets hold them
        buffer,
        numbers=np.array(ids, np.uint16 if len(id_of) <= 2**16 else np.uint32),
        lengths_N=np.array(lengths, np.int32),
        prints_N=np.array(hashes, np.uint64),
        sizes=np.array(sizes, np.int64),
        words=np.frombuffer(json.dumps(list(id_of)).encode(), np.uint8),
        documents=np.frombuffer(json.dumps([chunk.document for chunk in chunks]).encode(), np.uint8),
    )
    write_whole(path, buffer.getvalue())


def _parts(folder: Path) -> Iterator[np.lib.npyio.NpzFile]:
    for path in sorted((folder / "parts").glob("[0-9]*.npz")):
        with np.load(path) as part:
            yield part


def _spans(names: list[str], sizes: list[int]) -> list[Span]:
    """One span per document; consecutive chunks of one name are a document."""
    spans, stop = [], 0
    for name, group in groupby(zip(names, sizes, strict=True), key=lambda pair: pair[0]):
        start, stop = stop, stop + sum(size for _, size in group)
        spans.append(Span(name, start, stop, "train"))
    return spans


def hold_out_lines(spans: list[Span]) -> list[Span]:
    """The last 1 / 1000 of all lines are the validation set."""
    total = spans[-1].stop
    if total < 3 * HELD_OUT_LINES:
        raise UserError(
            f"data: {total:,} lines; {3 * HELD_OUT_LINES:,} or more are needed, so that the last 1 / {HELD_OUT_LINES:,} of them, "
            "the validation set, are three neighbours"
        )
    cut = total - total // HELD_OUT_LINES
    train = [s._replace(stop=min(s.stop, cut)) for s in spans if s.start < cut]
    return train + [s._replace(start=max(s.start, cut), split="valid") for s in spans if s.stop > cut]


def hold_out_documents(spans: list[Span], hashes_N: np.ndarray) -> list[Span]:
    """Random documents are the validation set; documents that repeat others, and sentences common to most, are left out.

    Collections hold the same text several times (two editions of a novel, an article in two sections). The validation documents
    must not be trained on, so they come first in the comparison. See `lnexp.data.text.duplicates`.
    """
    if len(spans) < 2:
        raise UserError(f"data: {spans[0].document} is the only document; 2 or more are needed, to train and to validate")
    order = sorted(range(len(spans)), key=lambda d: (fold(0, "prose", spans[d].document), d))
    valid = set(order[: max(1, round(len(spans) / HELD_OUT))])
    documents = duplicates.distinct([hashes_N[spans[d].start : spans[d].stop] for d in order])
    common = duplicates.common_sentences(documents)
    if len(common):
        documents = [np.setdiff1d(document, common) for document in documents]
    left_out = {d for d, repeats in zip(order, duplicates.repeating(documents), strict=True) if repeats}
    split = [SPLITS[2 if d in left_out else d in valid] for d in range(len(spans))]
    divided = [s._replace(split=name) for s, name in zip(spans, split, strict=True)]
    if len(common):
        divided = [part for s in divided for part in _without(s, np.isin(hashes_N[s.start : s.stop], common))]
    for name in ("train", "valid"):
        if not any(s.split == name for s in divided):
            raise UserError(f"data: no {name} document is left; {len(left_out)} of {len(spans)} documents repeat others")
    return divided


def _without(span: Span, common_N: np.ndarray) -> Iterator[Span]:
    """A document cut where its common sentences start and end; these are left out."""
    start = span.start
    for common, group in groupby(common_N.tolist()):
        stop = start + len(list(group))
        yield Span(span.document, start, stop, "left_out" if common else span.split)
        start = stop


def encode(folder: Path, target: Path, vocabulary_size: int) -> None:
    """Write vocabulary.json, numbers.npy (token ids, uint16, or int32 for a large vocabulary) and counts.json to `target`."""
    spans = [Span(*s) for s in json.loads((folder / "spans.json").read_bytes())]
    lengths_N = np.load(folder / "lengths.npy", mmap_mode="r")
    split_N = np.empty(len(lengths_N), np.int8)
    for span in spans:
        split_N[span.start : span.stop] = SPLITS.index(span.split)

    counts: Counter[str] = Counter()
    for words, ids, split in _words(folder, split_N):
        found = np.bincount(ids[split == 0], minlength=len(words))
        counts.update({words[n]: int(found[n]) for n in np.flatnonzero(found)})
    frequent = sorted(counts.keys() - set(Vocabulary.SPECIALS), key=lambda word: (-counts[word], word))
    vocabulary = Vocabulary([*Vocabulary.SPECIALS, *frequent[: vocabulary_size - len(Vocabulary.SPECIALS)]])
    vocabulary.save(target / "vocabulary.json")

    total, at = int(lengths_N.sum(dtype=np.int64)), 0
    dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32
    encoded = np.lib.format.open_memmap(target / "numbers.npy", "w+", dtype, (total,))
    tokens, unknown = np.zeros(3, np.int64), np.zeros(3, np.int64)  # by split
    for words, ids, split in _words(folder, split_N):
        id_V = np.array(vocabulary.encode(words, end=False), dtype)
        encoded[at : at + len(ids)] = now = np.maximum(id_V, UNKNOWN)[ids]  # a text may contain "<end>", which is no END
        tokens += np.bincount(split, minlength=3)
        unknown += np.bincount(split[now == UNKNOWN], minlength=3)
        at += len(ids)
    encoded.flush()
    all_counts = {
        name: {
            "documents": len({s.document for s in spans if s.split == name}),
            "sentences": int((split_N == k).sum()),
            "words": int(tokens[k]),
            "unknown": int(unknown[k]),
        }
        for k, name in enumerate(SPLITS)
    }
    write_whole(target / "counts.json", json.dumps(all_counts, indent=1).encode())


def _words(folder: Path, split_N: np.ndarray) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """(words, ids of these in text order, index of the split of each) of every part."""
    at = 0
    for part in _parts(folder):
        lengths = part["lengths_N"]
        split = np.repeat(split_N[at : at + len(lengths)], lengths)
        yield json.loads(part["words"].tobytes()), part["numbers"], split
        at += len(lengths)
