"""Batches of triplets: equal lengths, order, shares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from lnexp.data.prose import prose_set as prose
from lnexp.data.prose.prose_set import Prose, prose_batches
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import END, UNKNOWN, Vocabulary
from lnexp.errors import UserError


@pytest.fixture
def hand_made() -> Prose:
    """Two hundred sentences of 1 to 6 words, all of them with neighbours."""
    lengths_N = np.random.default_rng(0).integers(1, 7, 200)
    values = np.random.default_rng(1).integers(UNKNOWN, 50, lengths_N.sum()).astype(np.uint16)
    vocabulary = Vocabulary(["<end>", "<unk>", *map(str, range(2, 50))])
    triplets = {"train": np.arange(1, 190), "valid": np.arange(191, 199)}
    return Prose("hand_made", vocabulary, Sequences(values, lengths_N), triplets, {})


def columns(batch: dict[str, torch.Tensor], name: str) -> list[list[int]]:
    """The sentences of a batch without what fills them up, which must be END."""
    (numbers,) = [v for k, v in batch.items() if k.startswith(name) and "lengths" not in k]
    lengths = batch[f"{name}_lengths_B"].tolist()
    assert numbers.dtype == torch.int64 and len(numbers) == max(lengths)
    assert all(numbers[t:, b].eq(END).all() for b, t in enumerate(lengths))
    return [numbers[:t, b].tolist() for b, t in enumerate(lengths)]


def middles_of(made: Prose, batch: dict[str, torch.Tensor]) -> list[int]:
    """Which triplets a batch holds, after a check of every word of it."""
    of_triplet = {}
    for m in range(1, len(made.sentences) - 1):
        before, source, after = (made.sentences[n].tolist() for n in (m - 1, m, m + 1))
        of_triplet[(*before, END, *source, *after, END)] = m
    rows = zip(columns(batch, "before"), columns(batch, "source"), columns(batch, "after"), strict=True)
    return [of_triplet[(*before, *source, *after)] for before, source, after in rows]


def test_batches_of_equal_length(hand_made: Prose) -> None:
    batches = prose_batches(hand_made, "train", 8, seed=3, epoch=1)
    seen = [middles_of(hand_made, batches[k]) for k in range(len(batches))]
    lengths = [{len(hand_made.sentences[m]) for m in batch} for batch in seen]
    assert all(len(batch) == 8 for batch in seen) and all(len(each) == 1 for each in lengths)
    flat = [m for batch in seen for m in batch]
    assert len(set(flat)) == len(flat) and set(flat) <= set(hand_made.triplets["train"].tolist())
    of_length = Counter(len(hand_made.sentences[m]) for m in hand_made.triplets["train"])
    assert len(batches) == sum(count // 8 for count in of_length.values())
    assert lengths != sorted(lengths, key=min) and len({min(each) for each in lengths[:8]}) > 2


@pytest.mark.parametrize("order", prose.ORDERS)
def test_batches_follow_from_seed_and_epoch(hand_made: Prose, order: str) -> None:
    def epoch(seed: int, epoch: int, share: tuple[int, int] = (0, 1)) -> list[list[int]]:
        batches = prose_batches(hand_made, "train", 8, seed, epoch, share, order=order)
        return [middles_of(hand_made, batches[k]) for k in reversed(range(len(batches)))][::-1]

    first = epoch(3, 0)
    np.random.seed(1)
    assert epoch(3, 0) == first
    assert epoch(3, 1) != first and epoch(4, 0) != first
    parts = [epoch(3, 0, (rank, 2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in first]
    assert all(len(batch) == 4 for part in parts for batch in part)


@pytest.mark.parametrize("order", prose.ORDERS)
def test_without_a_seed_all_triplets_come_in_one_fixed_order(hand_made: Prose, order: str) -> None:
    batches = prose_batches(hand_made, "valid", 5, order=order)
    assert len(batches) == 2
    seen = middles_of(hand_made, batches[0]) + middles_of(hand_made, batches[1])
    assert seen == sorted(hand_made.triplets["valid"].tolist(), key=lambda m: len(hand_made.sentences[m]))
    with pytest.raises(IndexError):
        batches[2]


def test_wrong_batches_are_named(hand_made: Prose) -> None:
    with pytest.raises(UserError, match=r"order=bucket: allowed are bucketed, equal_length; did you mean bucketed\?"):
        prose_batches(hand_made, "train", 8, order="bucket")
    with pytest.raises(UserError, match="batch_size=300: no 300 training examples have the same length"):
        prose_batches(hand_made, "train", 300, seed=0)
    with pytest.raises(UserError, match="batch_size=9: must be a multiple of the 2 processes"):
        prose_batches(hand_made, "train", 9, seed=0, share=(0, 2))
