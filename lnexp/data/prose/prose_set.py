"""Contiguous prose: sentences in their order, triplets of neighbours, and batches of them (paper 6.3; Kiros et al. 2015).

| data | documents |
|---|---|
| bible_bbc | chapters of the World English Bible (public domain) and BBC articles (MIT, as the package claims) |
| books | any plain-text books of the user's own, such as the novels of ELTeC and CLiC (public domain) |
| bookcorpus | lists of one sentence a line, made for BookCorpus, which its makers no longer give out |

Words are torchtext's "basic_english" in lower case: double quotes, colons and semicolons vanish, an apostrophe or a single quote
is a word of its own (don't: don ' t), so is every full stop (3.5: 3 . 5; an ellipsis: three), and digits stay as they are. Dashes
are the word --, and other words keep their hyphens. BookCorpus is cut at its spaces and nowhere else.

Shapes: N sentences, T, S, R words of the longest sentence of a batch (source, before, after), B triplets in a batch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from lnexp.data.prose import prepare as prose_prepare
from lnexp.data.prose.sources import open_source
from lnexp.data.text.vocabulary import Sequences, Vocabulary, bucketed
from lnexp.errors import UserError, unknown
from lnexp.seeding import fold

REVISION = 1  # goes up when other code would prepare the same text otherwise
ORDERS = ("equal_length", "bucketed")


@dataclass(frozen=True)
class Prose:
    """Numbered sentences and which of them have neighbours.

    Attributes:
        name: of the source.
        vocabulary: END, UNKNOWN, and the commonest words of the training documents.
        sentences: all of them in order, without END, memory-mapped.
        triplets: split (train, valid) -> int64 numbers of the middle sentences; one less and one more are their neighbours.
        counts: split (train, valid, left_out: repeated documents) -> documents, sentences, words, unknown words, triplets.
    """

    name: str
    vocabulary: Vocabulary
    sentences: Sequences
    triplets: dict[str, np.ndarray]
    counts: dict[str, dict[str, int]]


def load(data: Mapping[str, Any], data_dir: Path, vocabulary_size: int, max_words: int) -> Prose:
    """The configured prose, prepared at first use and memory-mapped.

    Args:
        data: name "bible_bbc", "books" or "bookcorpus", and for the last two the folder or file `root`.
        data_dir: where downloads and prepared arrays are kept.
        vocabulary_size: numbers in use, END and UNKNOWN among them (public code: 20,000); small texts may have fewer words.
        max_words: all three sentences of a triplet have fewer words than this (public code: 30).

    Raises:
        UserError: a missing or damaged file, text that is not UTF-8, an empty book, or no triplet under the limit.
    """
    if vocabulary_size < 3:
        raise UserError(f"vocabulary_size={vocabulary_size}: must be 3 or more, two numbers being no words")
    source = open_source(data, data_dir)
    folder = data_dir / "prose" / f"{source.name}-{hashlib.sha256(f'{REVISION} {source.identity}'.encode()).hexdigest()[:12]}"
    numbered = folder / f"v{vocabulary_size}"
    if not (numbered / "counts.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # of runs that start together one prepares, and the others wait
            if not (folder / "spans.json").exists():
                prose_prepare.read(source, folder)
            if not (numbered / "counts.json").exists():
                prose_prepare.encode(folder, numbered, vocabulary_size)
    sentences = Sequences(np.load(numbered / "numbers.npy", mmap_mode="r"), np.load(folder / "lengths.npy"))
    counts = json.loads((numbered / "counts.json").read_bytes())
    spans = [prose_prepare.Span(*s) for s in json.loads((folder / "spans.json").read_bytes())]
    triplets = {}
    for split in ("train", "valid"):
        middles = [_middles(sentences.lengths_N[s.start : s.stop] < max_words) + s.start for s in spans if s.split == split]
        triplets[split] = np.concatenate(middles)
        counts[split]["triplets"] = len(triplets[split])
        if not len(triplets[split]):
            raise UserError(
                f"data={source.name}: no three neighbouring sentences of fewer than {max_words} words in the {split} documents"
            )
    return Prose(source.name, Vocabulary.load(numbered / "vocabulary.json"), sentences, triplets, counts)


def _middles(short_N: np.ndarray) -> np.ndarray:
    """Where a sentence and both its neighbours are short."""
    return np.flatnonzero(short_N[:-2] & short_N[1:-1] & short_N[2:]) + 1


class ProseBatches:
    """Batches of triplets: {"source_TB", "source_lengths_B", "before_SB", "before_lengths_B", "after_RB", "after_lengths_B"}.

    Numbers are int64, filled up with END; lengths are on the CPU. The neighbours end with END, which their lengths count; the
    source has none, since the encoder of the public code sees the words alone.

    Args:
        split: train or valid.
        batch_size: triplets in a batch, over all processes together.
        seed: None: all triplets in a fixed order, sources from short to long, the last batch may be smaller. Else shuffled by
            (seed, epoch), and what does not fill a batch is left out of this epoch.
        share: (rank, processes): every process gets its own, equally large part of each batch.
        order: how shuffled batches are made: equal_length, all sources of a batch having as many words, as the public code
            has it (which visits the lengths in turn; here each batch comes at random, so that the lengths keep their shares to
            the end of the epoch) | bucketed, of about equal length.
    """

    def __init__(
        self,
        prose: Prose,
        split: str,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        share: tuple[int, int] = (0, 1),
        device: str = "cpu",
        order: str = "equal_length",
    ) -> None:
        if order not in ORDERS:
            raise unknown("order", order, ORDERS)
        self.sentences, self.device = prose.sentences, device
        self.middles = prose.triplets[split]
        self.rank, self.processes = share if seed is not None else (0, 1)
        if batch_size % self.processes:
            raise UserError(f"batch_size={batch_size}: must be a multiple of the {self.processes} processes")
        lengths = self.sentences.lengths_N[self.middles]
        if seed is None or order == "bucketed":
            self.batches: Sequence[np.ndarray] | np.ndarray = bucketed(lengths, batch_size, seed, epoch)
        else:
            self.batches = _of_equal_length(lengths, batch_size, seed, epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        if not 0 <= k < len(self):
            raise IndexError(k)
        middle_B = self.middles[self.batches[k][self.rank :: self.processes]]
        source_TB, source_lengths_B = self.sentences.padded(middle_B, self.device)
        before_SB, before_lengths_B = self._ended(middle_B - 1)
        after_RB, after_lengths_B = self._ended(middle_B + 1)
        return {
            "source_TB": source_TB,
            "source_lengths_B": source_lengths_B,
            "before_SB": before_SB,
            "before_lengths_B": before_lengths_B,
            "after_RB": after_RB,
            "after_lengths_B": after_lengths_B,
        }

    def _ended(self, index_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """Sentences with END behind them; END being 0, a further row of zeros is all it takes."""
        numbers_TB, lengths_B = self.sentences.padded(index_B, self.device)
        return F.pad(numbers_TB, (0, 0, 0, 1)), lengths_B + 1


def _of_equal_length(lengths_N: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Batches [K, B] of indices whose lengths are equal within a batch, in random order."""
    random = np.random.default_rng(fold(seed, "order", epoch))
    whole = []
    for length in np.unique(lengths_N):
        index = random.permutation(np.flatnonzero(lengths_N == length))
        whole.append(index[: len(index) // batch_size * batch_size].reshape(-1, batch_size))
    batches = random.permutation(np.concatenate(whole))
    if not len(batches):
        raise UserError(f"batch_size={batch_size}: no {batch_size} training triplets have sources of one length")
    return batches
