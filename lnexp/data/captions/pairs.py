"""Batches of images, each with one of its captions.

Shapes: I images, B images in a batch, F features of an image, T tokens of the longest caption.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.data.batches import Batches, bucketed, full_batches, in_order
from lnexp.data.captions.caption_set import CaptionSet
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.seeding import fold


class Pairs:
    """The images of a split and their captions.

    Attributes:
        features_ID: features of all images of the set; rows_I: the rows of this split.
        words: token ids of all captions, with END, image by image.
        captions_I: number of captions of each image; first_I: index of its first one.
    """

    def __init__(self, images: CaptionSet, split: str, vocabulary: Vocabulary) -> None:
        self.features_ID, self.rows_I = images.features_ID, images.of(split)
        texts = [images.images[row].captions for row in self.rows_I]
        self.words = Sequences.of([vocabulary.encode(text) for each in texts for text in each])
        self.captions_I = np.array([len(each) for each in texts])
        self.first_I = np.cumsum(self.captions_I) - self.captions_I

    def __len__(self) -> int:
        return len(self.rows_I)

    def features(self, images: np.ndarray, device: str) -> Tensor:
        """Features [B, F] of images, float32, scaled to length 1 (paper 6.1)."""
        return F.normalize(torch.from_numpy(self.features_ID[self.rows_I[images]].astype(np.float32)), dim=1).to(device)


def pair_batches(pairs: Pairs, batch_size: int, seed: int | None, epoch: int, bucketing: bool, device: str) -> Batches:
    """Batches of images, each with one of its captions: {"features_BF", "words_TB", "lengths_B"}.

    Args:
        batch_size: images in a batch.
        seed: None: images in order with their first captions; the last batch may be smaller. Else order and captions are drawn
            by (seed, epoch); the last incomplete batch is dropped.
        bucketing: batches of captions of similar length.
        device: of all tensors but lengths.
    """
    caption_I = pairs.first_I
    if seed is None:
        index_batches = in_order(len(pairs), batch_size)
    else:
        random = np.random.default_rng(fold(seed, "pairs", epoch))
        caption_I = pairs.first_I + random.integers(0, pairs.captions_I)
        if bucketing:
            index_batches = bucketed(pairs.words.lengths_N[caption_I], batch_size, seed, epoch)
        else:
            index_batches = full_batches(random.permutation(len(pairs)), batch_size)

    def collate(index_B: np.ndarray, k: int) -> dict[str, Tensor]:
        words_TB, lengths_B = pairs.words.padded(caption_I[index_B], device)
        return {"features_BF": pairs.features(index_B, device), "words_TB": words_TB, "lengths_B": lengths_B}

    return Batches(index_batches, collate)
