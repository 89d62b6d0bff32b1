"""Tokenizes documents in parallel, one file per part, then encodes all parts with a vocabulary.

A part holds about two million characters, as ids of the part's own words. A preparation that was killed continues after the last
complete part, and another vocabulary size does not read the documents again. The tokens are never all in memory.

Shapes: N sentences of all documents, W words of a part, V words of a vocabulary.
"""

from __future__ import annotations

import io
import json
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lnexp.data.prose.documents import Chunk, Source
from lnexp.data.prose.splits import SPLITS, Span, hold_out_documents, hold_out_lines
from lnexp.data.text import duplicates
from lnexp.data.text.books import listed
from lnexp.data.text.sentences import sentences
from lnexp.data.text.vocabulary import UNKNOWN, Vocabulary, tokenize
from lnexp.data.workers import cores, process_pool
from lnexp.errors import UserError
from lnexp.files import write_whole

PART = 2_000_000  # characters


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
    print(f"Preparing {source.name} on {cores()} cores; after an interruption it continues where it was", file=sys.stderr)
    running: deque[Future] = deque()
    with (
        process_pool() as pool,
        tqdm(total=100, unit="%", desc=source.name, disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar,
    ):
        for number, chunks in enumerate(_grouped(source.chunks())):
            path = parts / f"{number:05}.npz"
            if not path.exists():
                if len(running) > 2 * cores():  # bounds the text in memory
                    running.popleft().result()
                running.append(pool.submit(_write_part, path, chunks, source.lines))
            bar.update(100 * chunks[-1].done - bar.n)
        for part in running:
            part.result()


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
