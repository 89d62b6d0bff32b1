"""Generates questions from texts with marked names: a sentence of the passage with one name replaced by the placeholder.

In CNN's set a question is a sentence of a summary written by a person. Here it is a sentence of the passage itself, of which
words are dropped or replaced at random by neighbours from a thesaurus of the training texts (`Paraphrase`).

Shapes: V words in the vocabulary, K neighbours of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.cloze.builder import ClozeArrays, ClozeBuilder, Texts
from lnexp.data.text.vocabulary import END, UNKNOWN, Vocabulary

SENTENCES, TOKENS = 4, 100  # of a passage (paper 6.2: 4 sentences)
MIN_LENGTH, MAX_LENGTH = 6, 35  # words of a sentence of a passage
MIN_QUESTION = 5  # words of a sentence that becomes a question, without names and numbers
NAMES = 4  # minimum number of names in a passage; the maximum is the number of entities
NEIGHBOURS, WINDOW, DIMENSIONS, MIN_PAIRS = 4, 3, 100, 3  # of the thesaurus: see `neighbours`
BLOCK = 1 << 22  # words that are counted at once

Text = list[list[str]]  # sentences of marked words
Passages = Iterable[Sequence[int]]  # indices of the sentences of each passage


def names_of(sentence: list[str]) -> list[str]:
    """The distinct names of a sentence, in order."""
    return list(dict.fromkeys(word for word in sentence if word[0] == "@"))


def fits(sentence: list[str]) -> bool:
    """Whether a sentence can be part of a passage."""
    return MIN_LENGTH <= len(sentence) <= MAX_LENGTH and bool(names_of(sentence))


def generate(
    name: str,
    texts: Iterable[tuple[str, Text]],
    choose: Callable[[Text, str], Passages],
    splits: Sequence[str],
    entities: int,
    vocabulary_size: int,
    counts: Counter[str],
) -> ClozeArrays:
    """Passages, questions and thesaurus.

    Args:
        name: of the source.
        texts: (split, sentences) of each text.
        choose: (text, split) -> the passages of a text.
        splits: names of the splits.
        entities, vocabulary_size: sizes.
        counts: counts of the source as a whole; `texts` may add to them while it is read.
    """
    builder, read = ClozeBuilder(splits), Texts()
    for split, text in texts:
        builder.splits[split].counts["texts"] += 1
        for indices in choose(text, split):
            passage, questions = ask([text[n] for n in indices])
            builder.splits[split].counts["left out: too few words to ask"] += sum(not q for q in questions)
            builder.add(split, passage, [q for q in questions if q])
        if split == "train":
            for sentence in text:
                read.append(builder.ids(["@entity0" if word[0] == "@" else word for word in sentence]))
    arrays, id_of = builder.finish(name, entities, vocabulary_size, counts)
    word_M = id_of[np.frombuffer(read.values, np.int32)]
    ends = np.repeat(np.cumsum(np.frombuffer(read.lengths, np.int32)), WINDOW)
    table_VK = neighbours(np.insert(word_M, ends, END), arrays.vocabulary)
    return replace(arrays, arrays=arrays.arrays | {"neighbours": table_VK})


def ask(passage: Text) -> tuple[list[str], list[tuple[list[str], int] | None]]:
    """The words of a passage, entities numbered by first mention, and a question for each name in each of its sentences.

    Returns:
        The words, and (question, index of the right entity) or None for a sentence with too few words.
    """
    number = {name: n for n, name in enumerate(names_of([word for sentence in passage for word in sentence]))}
    called = {name: f"@entity{n}" for name, n in number.items()}
    questions: list[tuple[list[str], int] | None] = []
    for sentence in passage:
        long_enough = sum(word[0].isalpha() for word in sentence) >= MIN_QUESTION
        for name in names_of(sentence):
            blanked = [PLACEHOLDER if word == name else called.get(word, word) for word in sentence]
            questions.append((blanked, number[name]) if long_enough else None)
    return [called.get(word, word) for sentence in passage for word in sentence], questions


def neighbours(word_M: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """A thesaurus: the NEIGHBOURS words that occur in the most similar contexts as each word.

    Positive pointwise mutual information of words and contexts (the words within WINDOW on either side, and separately the next
    and the previous word), context counts raised to the power .75, pairs counted MIN_PAIRS times or more;
    reduced to DIMENSIONS by singular value decomposition, scaled by the roots of the singular values, compared by cosine
    (Levy et al. 2015).

    Args:
        word_M: token ids of the training texts, WINDOW times END between sentences, every name as @entity0.
        vocabulary: of the token ids.

    Returns:
        table_VK, int64; punctuation, numbers and special words have themselves as neighbours.
    """
    v = len(vocabulary)
    counts_VV = [_pairs(word_M, distance, v) for distance in range(1, WINDOW + 1)]
    next_VV, near_VV = counts_VV[0], np.sum(counts_VV, axis=0)
    contexts = [_information(counts) for counts in (near_VV + near_VV.T, next_VV, next_VV.T)]
    # The left singular vectors of [a b c] are the eigenvectors of a a' + b b' + c c', the squares of the values its eigenvalues.
    values, vectors_VV = np.linalg.eigh(np.sum([c @ c.T for c in contexts], axis=0))
    place_VD = vectors_VV[:, -DIMENSIONS:] * np.maximum(values[-DIMENSIONS:], 0) ** 0.25
    place_VD /= np.linalg.norm(place_VD, axis=1, keepdims=True) + 1e-9
    alike_VV = place_VD @ place_VD.T
    is_word_V = np.array([word[0].isalpha() for word in vocabulary.words])
    alike_VV[:, ~is_word_V] = -np.inf
    np.fill_diagonal(alike_VV, -np.inf)
    table_VK = np.argsort(-alike_VV, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.where(is_word_V[:, None], table_VK, np.arange(v)[:, None])


def _pairs(word_M: np.ndarray, distance: int, v: int) -> np.ndarray:
    """count_VV[a, b]: how often word b follows word a at this distance."""
    count_VV = np.zeros(v * v, np.int64)
    for start in range(0, len(word_M) - distance, BLOCK):
        first_P = word_M[start : start + BLOCK + distance].astype(np.int64)
        count_VV += np.bincount(first_P[:-distance] * v + first_P[distance:], minlength=v * v)
    return count_VV.reshape(v, v)


def _information(count_VV: np.ndarray) -> np.ndarray:
    """Positive pointwise mutual information of words (rows) with contexts (columns)."""
    count_VV = count_VV.astype(np.float64)
    count_VV[:, [END, UNKNOWN]] = 0
    row_V1 = count_VV.sum(1, keepdims=True) + 1
    column_V = (count_VV.sum(0) + 1) ** 0.75
    expected_VV = row_V1 * (column_V / column_V.sum())
    return np.log(np.maximum(count_VV / expected_VV, 1)) * (count_VV >= MIN_PAIRS)
