"""Text: words, vocabularies, and batches of sentences of about equal length. The only file that knows torchtext.

torchtext 0.6.0 is the last release in pure Python; its tokenizer, vocabulary and bucketing are used, behind functions whose
results follow from their arguments alone. Vocabularies are kept as JSON lists, never as pickles.

Shapes: N sentences, T words of the longest one, B sentences in a batch.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchtext.data.iterator import pool
from torchtext.data.utils import RandomShuffler, get_tokenizer
from torchtext.vocab import Vocab

from lnexp.errors import UserError
from lnexp.files import write_whole
from lnexp.seeding import fold

END, UNKNOWN = 0, 1  # numbers of the end of a sentence, which also fills short rows of a batch, and of a word not in the list


def tokenize(text: str) -> list[str]:
    """The words of a text in lower case, punctuation apart (torchtext's "basic_english")."""
    return _tokenizer()(text)


@cache
def _tokenizer() -> Any:
    return get_tokenizer("basic_english")


class Vocabulary:
    """Words and their numbers: the special ones first, then the commonest, words of equal count in alphabetical order.

    Args:
        words: all of them; the place in the list is the number. The first two are END and UNKNOWN.
    """

    SPECIALS = ("<end>", "<unk>")

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.numbers = {word: n for n, word in enumerate(self.words)}
        if tuple(self.words[:2]) != self.SPECIALS or len(self.numbers) != len(self.words):
            raise ValueError(f"a vocabulary starts with {self.SPECIALS} and holds every word once")

    @classmethod
    def build(
        cls, sentences: Iterable[Iterable[str]], max_size: int | None = None, min_freq: int = 1, specials: Sequence[str] = ()
    ) -> Vocabulary:
        """The vocabulary of some sentences of words.

        Args:
            max_size: keep so many of the commonest words, not counting special ones; None: all.
            min_freq: leave out words that occur less often.
            specials: more words that always have a number, right behind END and UNKNOWN.
        """
        counts = Counter(word for sentence in sentences for word in sentence)
        return cls(Vocab(counts, max_size, min_freq, specials=[*cls.SPECIALS, *specials]).itos)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str], end: bool = True) -> list[int]:
        """The numbers of some words, UNKNOWN for those not in the list, and END behind them."""
        return [self.numbers.get(word, UNKNOWN) for word in words] + [END] * end

    def save(self, path: Path) -> None:
        """Write the words as a JSON list."""
        write_whole(path, json.dumps(self.words, ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a vocabulary ({error})") from error


class Sequences:
    """Many sequences of numbers of different lengths, end to end in one array, which may be memory-mapped.

    Args:
        values: all numbers.
        lengths_N: how many of them each sequence has, in order; 1 or more.
    """

    def __init__(self, values: np.ndarray, lengths_N: np.ndarray) -> None:
        self.values, self.lengths_N = values, np.asarray(lengths_N, np.int64)
        self.starts_N = np.cumsum(self.lengths_N) - self.lengths_N
        if self.lengths_N.sum() != len(values) or (len(self) and self.lengths_N.min() < 1):
            raise ValueError(f"lengths sum to {self.lengths_N.sum()} for {len(values)} values, and each must be 1 or more")

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Sequences:
        """From lists of numbers."""
        flat = np.fromiter((n for s in sequences for n in s), np.int32)
        return cls(flat, np.fromiter((len(s) for s in sequences), np.int64, len(sequences)))

    def __len__(self) -> int:
        return len(self.lengths_N)

    def __getitem__(self, n: int) -> np.ndarray:
        return self.values[self.starts_N[n] : self.starts_N[n] + self.lengths_N[n]]

    def padded(self, index_B: np.ndarray, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Some of the sequences, one a column: (numbers int64 [T, B], filled up with END; lengths int64 [B], on the CPU)."""
        lengths_B = self.lengths_N[index_B]
        t_T1 = np.arange(lengths_B.max(initial=0))[:, None]
        inside_TB = t_T1 < lengths_B
        numbers_TB = self.values[self.starts_N[index_B] + np.where(inside_TB, t_T1, 0)].astype(np.int64)
        numbers_TB[~inside_TB] = END
        return torch.from_numpy(numbers_TB).to(device), torch.from_numpy(lengths_B)


def bucketed(lengths_N: np.ndarray, batch_size: int, seed: int | None = None, epoch: int = 0) -> list[np.ndarray]:
    """Batches of sequences of about equal length, as indices.

    Args:
        lengths_N: of each sequence.
        batch_size: sequences in a batch.
        seed: None: all sequences from short to long, the last batch may be smaller. Else shuffled by (seed, epoch), sorted within
            windows of a hundred batches, the batches shuffled, and what does not fill a batch is left out of this epoch.
    """
    if seed is None:
        order_N = np.argsort(lengths_N, kind="stable")
        return [order_N[k : k + batch_size] for k in range(0, len(order_N), batch_size)]
    if batch_size > len(lengths_N):
        raise UserError(f"batch_size={batch_size}: there are only {len(lengths_N)} training examples")
    order_N = np.random.default_rng(fold(seed, "order", epoch)).permutation(len(lengths_N))
    whole = order_N[: len(order_N) // batch_size * batch_size].tolist()
    shuffler = RandomShuffler(random.Random(fold(seed, "buckets", epoch)).getstate())
    batches = pool(whole, batch_size, lambda n: lengths_N[n], random_shuffler=shuffler, shuffle=True, sort_within_batch=True)
    return [np.array(batch) for batch in batches]
