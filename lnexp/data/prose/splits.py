"""Divides documents into training and validation sets, and leaves out near-duplicates.

Shapes: N sentences of all documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from lnexp.data.text import duplicates
from lnexp.errors import UserError
from lnexp.seeding import fold

HELD_OUT, HELD_OUT_LINES = 30, 1000  # 1 / 30 of the documents, or the last 1 / 1000 of the lines, are the validation set
SPLITS = ("train", "valid", "left_out")


class Span(NamedTuple):
    """Sentences start to stop of one document, and their split."""

    document: str
    start: int
    stop: int
    split: str


def hold_out_lines(spans: list[Span]) -> list[Span]:
    """The last 1 / 1000 of all lines are the validation set."""
    total = spans[-1].stop
    if total < 3 * HELD_OUT_LINES:
        raise UserError(
            f"data.root: {total:,} lines; {3 * HELD_OUT_LINES:,} or more are needed, so that the validation set, the last "
            f"1 / {HELD_OUT_LINES:,} of them, is three neighbours"
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
        raise UserError(f"data.root: {spans[0].document} is the only document; 2 or more are needed, to train and to validate")
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
            raise UserError(f"data.root: no {name} document is left; {len(left_out)} of {len(spans)} documents repeat others")
    return divided


def _without(span: Span, common_N: np.ndarray) -> Iterator[Span]:
    """A document cut where its common sentences start and end; these are left out."""
    start = span.start
    for common, group in groupby(common_N.tolist()):
        stop = start + len(list(group))
        yield Span(span.document, start, stop, "left_out" if common else span.split)
        start = stop
