"""The functions of torchtext that are used; the only module that imports it.

torchtext 0.6.0 is its last release in pure Python. Results depend on the arguments alone: the global generator is not used.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torchtext.data import iterator
from torchtext.data.utils import RandomShuffler, get_tokenizer
from torchtext.vocab import Vocab


def basic_english() -> Callable[[str], list[str]]:
    """The tokenizer "basic_english": lower case, punctuation marks as tokens."""
    return get_tokenizer("basic_english")


def most_frequent(counts: Counter[str], max_size: int | None, min_freq: int, specials: Sequence[str]) -> list[str]:
    """The special words, then at most `max_size` others by falling count, ties in alphabetical order."""
    return Vocab(counts, max_size, min_freq, specials=list(specials)).itos


def pool(index: list[int], batch_size: int, lengths_N: np.ndarray, seed: int) -> Iterator[list[int]]:
    """Batches sorted by length within windows of 100 batches; the batches of a window are shuffled."""
    shuffler = RandomShuffler(random.Random(seed).getstate())
    return iterator.pool(
        index, batch_size, lambda n: lengths_N[n], random_shuffler=shuffler, shuffle=True, sort_within_batch=True
    )
