"""A line of handwriting as offsets of the pen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LIMIT = 1000  # sensor units; a longer offset (0.01 % of those of IAM-OnDB) is cut to it (Graves 2013: removed)


class Line(NamedTuple):
    """A line of handwriting.

    Attributes:
        name: unique in its data set.
        split: train, valid, test or other.
        offsets: int16 [n, 3]: dx, dy (downwards), and whether the pen leaves the paper after this offset. The first leads from
            the first point to the second.
        text: what is written.
    """

    name: str
    split: str
    offsets: np.ndarray
    text: str


def offsets(strokes: Sequence[np.ndarray]) -> np.ndarray:
    """The offsets of strokes, whole coordinates [n, 2] each; empty for fewer than two points."""
    at = np.concatenate([*strokes, np.empty((0, 2), int)]).astype(int)
    ends = np.zeros(len(at), int)
    ends[np.cumsum([len(stroke) for stroke in strokes if len(stroke)], dtype=int) - 1] = 1
    return np.column_stack([np.diff(at, axis=0).clip(-LIMIT, LIMIT), ends[1:]]).astype(np.int16)
