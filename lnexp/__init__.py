"""lnexp: every experiment of "Layer Normalization" (Ba, Kiros, Hinton, arXiv 1607.06450), re-run with seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lnexp.data.text.word_vectors import WordVectors
    from lnexp.encode import Encoder

__version__ = "0.1.0"


def load_encoder(run: str | Path, published: WordVectors | None = None) -> Encoder:
    """The sentence encoder that a run of task=skip_thoughts has trained: see `lnexp.encode.Encoder.load`."""
    from lnexp.encode import Encoder  # here, so that importing lnexp does not import torch

    return Encoder.load(run, published)
