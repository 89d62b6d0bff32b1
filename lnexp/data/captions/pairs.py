"""Batches of images, each with one of its captions.

Shapes: I images, B batch, F features of an image, T words of the longest caption.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.data.captions.caption_set import CaptionSet
from lnexp.data.text.vocabulary import Sequences, Vocabulary, bucketed
from lnexp.errors import UserError
from lnexp.seeding import fold


class Pairs:
    """The images of a split and their captions: the rows of their features, and words with END behind them."""

    def __init__(self, images: CaptionSet, split: str, vocabulary: Vocabulary) -> None:
        self.features_ID, self.rows_I = images.features_ID, images.of(split)
        texts = [images.images[row].captions for row in self.rows_I]
        self.words = Sequences.of([vocabulary.encode(text) for each in texts for text in each])
        self.captions_I = np.array([len(each) for each in texts])
        self.first_I = np.cumsum(self.captions_I) - self.captions_I

    def __len__(self) -> int:
        return len(self.rows_I)

    def features(self, images: np.ndarray, device: str) -> Tensor:
        """Features of some images, float32, each of length 1 (paper section 6.1)."""
        return F.normalize(torch.from_numpy(self.features_ID[self.rows_I[images]].astype(np.float32)), dim=1).to(device)


class PairBatches:
    """Batches of pairs in an order and with captions that follow from (seed, epoch). Seed None: in order, first captions."""

    def __init__(self, pairs: Pairs, batch_size: int, seed: int | None, epoch: int, bucketing: bool, device: str) -> None:
        self.pairs, self.device = pairs, device
        order = np.arange(len(pairs))
        self.caption_I = pairs.first_I
        if seed is not None:
            if batch_size > len(pairs):
                raise UserError(f"batch_size={batch_size}: there are only {len(pairs)} training images")
            random = np.random.default_rng(fold(seed, "pairs", epoch))
            self.caption_I = pairs.first_I + random.integers(0, pairs.captions_I)
            order = random.permutation(len(pairs))[: len(pairs) // batch_size * batch_size]
        self.images = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
        if seed is not None and bucketing:
            self.images = bucketed(pairs.words.lengths_N[self.caption_I], batch_size, seed, epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        words_TB, lengths_B = self.pairs.words.padded(self.caption_I[self.images[k]], self.device)
        return {
            "features_BF": self.pairs.features(self.images[k], self.device),
            "words_TB": words_TB,
            "lengths_B": lengths_B,
        }
