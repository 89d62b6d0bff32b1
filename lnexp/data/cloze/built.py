"""Questions built from marked texts: a sentence of the passage with one name blanked, later compressed and paraphrased.

They differ from CNN's, where a person has written a summary that the article bears out: here the question is a sentence of the
passage itself, shortened by chance. A thesaurus made from the training texts takes the place of the summary's other words.

Shapes: V words in the vocabulary, K neighbours of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.cloze.draft import Draft, Prepared, Texts
from lnexp.data.text.vocabulary import END, UNKNOWN, Vocabulary

SENTENCES, TOKENS = 4, 100  # of a passage (paper 6.2: 4 sentences)
SHORTEST, LONGEST = 6, 35  # sentences of fewer or more words are never in a passage
ASKED = 5  # a question is made from a sentence with at least so many words, names and numbers not counted
NAMES = 4  # a passage has at least so many names, and at most as many as there are entities
NEIGHBOURS, WINDOW, DIMENSIONS, PAIRS = 4, 3, 100, 3  # of the thesaurus: see `neighbours`
PIECE = 1 << 22  # words that are counted at once

Text = list[list[str]]  # sentences of marked words
Chosen = Iterable[Sequence[int]]  # passages, as places of their sentences in the text


def names_of(sentence: list[str]) -> list[str]:
    """The names in a sentence, each once, in order."""
    return list(dict.fromkeys(word for word in sentence if word[0] == "@"))


def fits(sentence: list[str]) -> bool:
    """Whether a sentence can be part of a passage."""
    return SHORTEST <= len(sentence) <= LONGEST and bool(names_of(sentence))


def prepare(
    name: str,
    texts: Iterable[tuple[str, Text]],
    choose: Callable[[Text, str], Chosen],
    splits: Sequence[str],
    entities: int,
    vocabulary_size: int,
    of_all: Counter[str],
) -> Prepared:
    """Passages, questions and thesaurus.

    Args:
        name: of the source.
        texts: (split, sentences) of each text.
        choose: the passages of a text for a split.
        splits: their names.
        entities, vocabulary_size: sizes.
        of_all: counts that belong to no split; those that `texts` adds while it is read are kept.
    """
    draft, read = Draft(splits), Texts()
    for split, text in texts:
        draft.splits[split].counts["texts"] += 1
        for places in choose(text, split):
            passage, questions = ask([text[n] for n in places])
            draft.splits[split].counts["left out: too few words to ask"] += sum(not q for q in questions)
            draft.add(split, passage, [q for q in questions if q])
        if split == "train":
            for sentence in text:
                read.append(draft.number(["@entity0" if word[0] == "@" else word for word in sentence]))
    prepared, number_of = draft.finish(name, entities, vocabulary_size, of_all)
    word_M = number_of[np.frombuffer(read.values, np.int32)]
    ends = np.repeat(np.cumsum(np.frombuffer(read.lengths, np.int32)), WINDOW)
    table_VK = neighbours(np.insert(word_M, ends, END), prepared.vocabulary)
    return replace(prepared, arrays=prepared.arrays | {"neighbours": table_VK})


def ask(passage: Text) -> tuple[list[str], list[tuple[list[str], int] | None]]:
    """The words of a passage, entities numbered by first mention, and a question for each name in each of its sentences.

    Returns:
        The words, and (question, number of the entity that is right) or None where a sentence says too little to be asked.
    """
    number = {name: n for n, name in enumerate(names_of([word for sentence in passage for word in sentence]))}
    called = {name: f"@entity{n}" for name, n in number.items()}
    questions: list[tuple[list[str], int] | None] = []
    for sentence in passage:
        tells = sum(word[0].isalpha() for word in sentence) >= ASKED
        for name in names_of(sentence):
            blanked = [PLACEHOLDER if word == name else called.get(word, word) for word in sentence]
            questions.append((blanked, number[name]) if tells else None)
    return [called.get(word, word) for sentence in passage for word in sentence], questions


def neighbours(word_M: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """A thesaurus: of each word the NEIGHBOURS that keep the most similar company.

    Positive pointwise mutual information of a word with its contexts (words up to WINDOW away on either side, and apart from
    those the word right behind and the word right before), contexts smoothed by the power .75, pairs met PAIRS times or more;
    reduced to DIMENSIONS by singular value decomposition, scaled by the roots of the singular values, compared by cosine
    (Levy et al. 2015).

    Args:
        word_M: numbers of all words of the training texts, WINDOW times END between sentences, every name as @entity0.
        vocabulary: of the numbers.

    Returns:
        table_VK, int64; signs, numbers and all special words have themselves as neighbours.
    """
    v = len(vocabulary)
    counts_VV = [_pairs(word_M, distance, v) for distance in range(1, WINDOW + 1)]
    next_VV, near_VV = counts_VV[0], np.sum(counts_VV, axis=0)
    company = [_information(counts) for counts in (near_VV + near_VV.T, next_VV, next_VV.T)]
    # The left singular vectors of [a b c] are the eigenvectors of a a' + b b' + c c', the squares of the values its eigenvalues.
    values, vectors_VV = np.linalg.eigh(np.sum([c @ c.T for c in company], axis=0))
    place_VD = vectors_VV[:, -DIMENSIONS:] * np.maximum(values[-DIMENSIONS:], 0) ** 0.25
    place_VD /= np.linalg.norm(place_VD, axis=1, keepdims=True) + 1e-9
    alike_VV = place_VD @ place_VD.T
    is_word_V = np.array([word[0].isalpha() for word in vocabulary.words])
    alike_VV[:, ~is_word_V] = -np.inf
    np.fill_diagonal(alike_VV, -np.inf)
    table_VK = np.argsort(-alike_VV, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.where(is_word_V[:, None], table_VK, np.arange(v)[:, None])


def _pairs(word_M: np.ndarray, distance: int, v: int) -> np.ndarray:
    """count_VV: how often the second word stands so far behind the first."""
    count_VV = np.zeros(v * v, np.int64)
    for start in range(0, len(word_M) - distance, PIECE):
        first_P = word_M[start : start + PIECE + distance].astype(np.int64)
        count_VV += np.bincount(first_P[:-distance] * v + first_P[distance:], minlength=v * v)
    return count_VV.reshape(v, v)


def _information(count_VV: np.ndarray) -> np.ndarray:
    """Positive pointwise mutual information of words (rows) with contexts (columns)."""
    count_VV = count_VV.astype(np.float64)
    count_VV[:, [END, UNKNOWN]] = 0
    row_V1 = count_VV.sum(1, keepdims=True) + 1
    column_V = (count_VV.sum(0) + 1) ** 0.75
    expected_VV = row_V1 * (column_V / column_V.sum())
    return np.log(np.maximum(count_VV / expected_VV, 1)) * (count_VV >= PAIRS)
