"""Images with class labels, of any source, as bytes in memory-mapped arrays.

Shapes: N images, Y rows, X columns, C colours (1 or 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lnexp.data import mnist
from lnexp.data.images import image_folder


class Images(NamedTuple):
    """Images and labels of one split, in an order that mixes the classes."""

    x_NYXC: np.ndarray  # uint8
    y_N: np.ndarray  # int64, 0 to classes - 1


class ImageSet(NamedTuple):
    """The splits train, valid and test, and the names of the classes."""

    splits: dict[str, Images]
    classes: list[str]


def load(data: Mapping[str, Any], data_dir: Path) -> ImageSet:
    """The images of a configured set: a source of `lnexp.data.mnist`, or "image_folder", see `lnexp.data.images.image_folder`.

    Raises:
        UserError: an unknown data.name, or files that are missing or do not fit together.
    """
    if data["name"] == "image_folder":
        arrays, classes = image_folder.load(data, data_dir)
        return ImageSet({split: Images(x, y) for split, (x, y) in arrays.items()}, classes)
    digits = mnist.load(data, data_dir)
    shape = (-1, mnist.SIDE, mnist.SIDE, 1)
    return ImageSet(
        {split: Images(x.reshape(shape), y.astype(np.int64)) for split, (x, y) in digits.items()},
        [str(digit) for digit in range(mnist.CLASSES)],
    )
