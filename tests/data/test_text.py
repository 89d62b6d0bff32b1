"""Tokens, vocabularies, sequences and batches of similar length."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lnexp.data.batches import bucketed
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import END, UNKNOWN, Vocabulary, tokenize
from lnexp.errors import UserError

SENTENCES = [["a", "dog", "runs"], ["a", "cat"], ["dog"], ["bird"]]


def test_tokens_are_lower_case_and_punctuation_marks() -> None:
    assert tokenize("A dog, it's said, runs.") == ["a", "dog", ",", "it", "'", "s", "said", ",", "runs", "."]


def test_a_vocabulary_has_the_most_frequent_words_first() -> None:
    vocabulary = Vocabulary.build(SENTENCES)
    assert vocabulary.words == ["<end>", "<unk>", "a", "dog", "bird", "cat", "runs"]
    assert vocabulary.encode(["dog", "mews"]) == [3, UNKNOWN, END]
    assert vocabulary.encode(["a"], end=False) == [2]
    assert Vocabulary.build(SENTENCES, max_size=2).words[2:] == ["a", "dog"]
    assert Vocabulary.build(SENTENCES, min_freq=2, specials=["@1"]).words == ["<end>", "<unk>", "@1", "a", "dog"]


def test_a_vocabulary_is_kept_as_a_list(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build([["naïve", "word"]])
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json").words == vocabulary.words
    for broken in ("[1, 2", '["a", "b"]', "5"):
        (tmp_path / "words.json").write_text(broken)
        with pytest.raises(UserError, match="not a vocabulary"):
            Vocabulary.load(tmp_path / "words.json")


def test_sequences_are_padded_behind_their_end() -> None:
    sequences = Sequences.of([[5, 6, 7], [8], [9, 4]])
    assert [sequences[n].tolist() for n in range(len(sequences))] == [[5, 6, 7], [8], [9, 4]]
    numbers_TB, lengths_B = sequences.padded(np.array([2, 0, 2]))
    assert numbers_TB.tolist() == [[9, 5, 9], [4, 6, 4], [END, 7, END]]
    assert lengths_B.tolist() == [2, 3, 2]
    assert numbers_TB.dtype == lengths_B.dtype == torch.int64
    with pytest.raises(ValueError, match="lengths sum to 3 for 4 values"):
        Sequences(np.arange(4), np.array([1, 2]))
    with pytest.raises(ValueError, match="1 or more"):
        Sequences(np.arange(3), np.array([3, 0]))


def test_buckets_follow_from_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 5003)
    first = bucketed(lengths, 32, seed=1, epoch=2)
    random.seed(0)
    before = random.getstate()
    again = bucketed(lengths, 32, seed=1, epoch=2)
    assert random.getstate() == before
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {len(b) for b in first} == {32}
    assert len(set(np.concatenate(first).tolist())) == 5003 // 32 * 32
    others = [bucketed(lengths, 32, seed=1, epoch=3), bucketed(lengths, 32, seed=2, epoch=2)]
    assert all(not np.array_equal(np.concatenate(first), np.concatenate(o)) for o in others)
    padding = 1 - lengths[np.concatenate(first)].sum() / sum(32 * lengths[b].max() for b in first)
    assert padding < 0.05
    means = [lengths[b].mean() for b in first[:60]]
    assert means != sorted(means)  # batches come in random order of length


def test_without_a_seed_all_go_from_short_to_long() -> None:
    lengths = np.array([5, 1, 3, 1, 9])
    assert [b.tolist() for b in bucketed(lengths, 2)] == [[1, 3], [2, 0], [4]]
    with pytest.raises(UserError, match="batch_size=6: there are only 5 training examples"):
        bucketed(lengths, 6, seed=0)
