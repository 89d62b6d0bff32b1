"""Contiguous prose: sentences in order, triplets of neighbours, and batches of them (paper 6.3; Kiros et al. 2015).

| data | documents |
|---|---|
| bible_bbc | chapters of the World English Bible (public domain) and BBC articles (MIT, according to the package) |
| books | any plain-text books of the user's own, such as the novels of ELTeC and CLiC (public domain) |
| bookcorpus | files of one sentence per line, made for BookCorpus, which is no longer distributed |

The tokens are those of torchtext's "basic_english", in lower case: double quotes, colons and semicolons are dropped; an
apostrophe or single quote is a token (don't: don ' t), and so is a full stop (3.5: 3 . 5); digits are kept. A dash is the token
--, other words keep their hyphens. BookCorpus is split at its spaces.

Shapes: N sentences; T, S, R tokens of the longest sentence of a batch (source, before, after); B triplets in a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from lnexp.data.batches import Batches, Share, bucketed, equal_length
from lnexp.data.prose.documents import open_source
from lnexp.data.prose.prepare import encode, tokenize_documents
from lnexp.data.prose.splits import Span
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.errors import UserError, unknown
from lnexp.files import prepared

REVISION = 1  # increased when a change of code changes the prepared arrays
ORDERS = ("equal_length", "bucketed")


@dataclass(frozen=True)
class Prose:
    """Encoded sentences, and which of them have neighbours.

    Attributes:
        name: of the source.
        vocabulary: END, UNKNOWN, and the most frequent words of the training documents.
        sentences: token ids of all sentences in order, without END, memory-mapped.
        triplets: split (train, valid) -> int64 indices of the middle sentences, whose neighbours are before and after them.
        counts: split (train, valid, left_out) -> numbers of documents, sentences, words, unknown words, triplets.
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
        data_dir: where downloads and prepared arrays are stored.
        vocabulary_size: number of token ids, END and UNKNOWN included (public code: 20,000); a small text may have fewer words.
        max_words: all three sentences of a triplet have fewer words than this (public code: 30).

    Raises:
        UserError: a missing or damaged file, text that is not UTF-8, an empty book, or no triplet within the limit.
    """
    if vocabulary_size < 3:
        raise UserError(f"vocabulary_size={vocabulary_size}: must be 3 or more, two token ids being special")
    source = open_source(data, data_dir)
    folder = data_dir / "prose" / f"{source.name}-{hashlib.sha256(f'{REVISION} {source.identity}'.encode()).hexdigest()[:12]}"
    prepared(folder, lambda unfinished: tokenize_documents(source, unfinished), ["lengths.npy", "spans.json"], resume=True)
    encoded = folder / f"v{vocabulary_size}"
    prepared(encoded, lambda unfinished: encode(folder, unfinished, vocabulary_size), ["numbers.npy", "counts.json"])
    sentences = Sequences(np.load(encoded / "numbers.npy", mmap_mode="r"), np.load(folder / "lengths.npy"))
    counts = json.loads((encoded / "counts.json").read_bytes())
    spans = [Span(*s) for s in json.loads((folder / "spans.json").read_bytes())]
    triplets = {}
    for split in ("train", "valid"):
        middles = [_middles(sentences.lengths_N[s.start : s.stop] < max_words) + s.start for s in spans if s.split == split]
        triplets[split] = np.concatenate(middles)
        counts[split]["triplets"] = len(triplets[split])
        if not len(triplets[split]):
            raise UserError(
                f"data={source.name}: no three neighbouring sentences of fewer than {max_words} words in the {split} documents"
            )
    return Prose(source.name, Vocabulary.load(encoded / "vocabulary.json"), sentences, triplets, counts)


def _middles(short_N: np.ndarray) -> np.ndarray:
    """Indices of the sentences that are short, with short neighbours."""
    return np.flatnonzero(short_N[:-2] & short_N[1:-1] & short_N[2:]) + 1


def prose_batches(
    prose: Prose,
    split: str,
    batch_size: int,
    seed: int | None = None,
    epoch: int = 0,
    share: Share = (0, 1),
    device: str = "cpu",
    order: str = "equal_length",
) -> Batches:
    """Batches of triplets.

    Args:
        split: train or valid.
        batch_size: triplets in a batch, over all processes.
        seed: None: all triplets in order of source length, the last batch may be smaller. Else shuffled by (seed, epoch);
            incomplete batches are dropped.
        share: see `Batches`.
        device: of all tensors but lengths.
        order: of shuffled batches: "equal_length", all sources of a batch have the same number of tokens, as in the public code
            (there the lengths take turns; here the batches come in random order) | "bucketed", similar numbers.

    Each batch is a dictionary:
        source_TB, before_SB, after_RB: int64 token ids, padded with END. The neighbours end with END; the source does not, since
            the encoder of the public code reads the words alone.
        source_lengths_B, before_lengths_B, after_lengths_B: int64, on the CPU, END included.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    middle_N = prose.triplets[split]
    lengths_N = prose.sentences.lengths_N[middle_N]

    def ended(index_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """Sentences followed by END, which is 0: one more row of zeros."""
        ids_TB, lengths_B = prose.sentences.padded(index_B, device)
        return F.pad(ids_TB, (0, 0, 0, 1)), lengths_B + 1

    def collate(index_B: np.ndarray, k: int) -> dict[str, Tensor]:
        middle_B = middle_N[index_B]
        source_TB, source_lengths_B = prose.sentences.padded(middle_B, device)
        before_SB, before_lengths_B = ended(middle_B - 1)
        after_RB, after_lengths_B = ended(middle_B + 1)
        return {
            "source_TB": source_TB,
            "source_lengths_B": source_lengths_B,
            "before_SB": before_SB,
            "before_lengths_B": before_lengths_B,
            "after_RB": after_RB,
            "after_lengths_B": after_lengths_B,
        }

    if seed is None or order == "bucketed":
        return Batches(bucketed(lengths_N, batch_size, seed, epoch), collate, seed, share)
    return Batches(equal_length(lengths_N, batch_size, seed, epoch), collate, seed, share)
