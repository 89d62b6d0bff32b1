"""Builds a cloze set: collects passages and questions, then chooses the vocabulary and encodes them.

While questions are collected, words have provisional ids in order of appearance.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, count

import numpy as np

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.errors import UserError


@dataclass(frozen=True)
class ClozeArrays:
    """A cloze set before it is written: `arrays` by file name, the other fields as in ClozeSet."""

    vocabulary: Vocabulary
    entities: int
    arrays: dict[str, np.ndarray]
    counts: dict[str, dict[str, int]]


class Texts:
    """Many texts, concatenated, as provisional ids."""

    def __init__(self) -> None:
        self.values, self.lengths = array("i"), array("i")

    def append(self, ids: list[int]) -> None:
        self.values.extend(ids)
        self.lengths.append(len(ids))


@dataclass
class SplitBuilder:
    """Passages and questions of one split. `counts`: how many were used, and how many left out for which reason."""

    passages: Texts = field(default_factory=Texts)
    questions: Texts = field(default_factory=Texts)
    passage_of: array = field(default_factory=lambda: array("i"))
    answers: array = field(default_factory=lambda: array("i"))
    counts: Counter[str] = field(default_factory=Counter)


class ClozeBuilder:
    """Collects the splits of a cloze set. Entities are the words "@entity0", "@entity1", ...; the blank is PLACEHOLDER."""

    def __init__(self, splits: Iterable[str]) -> None:
        self.provisional: defaultdict[str, int] = defaultdict(count().__next__)
        self.splits = {split: SplitBuilder() for split in splits}

    def ids(self, words: Iterable[str]) -> list[int]:
        """Provisional ids of words."""
        return [self.provisional[word] for word in words]

    def add(self, split: str, passage: list[str], questions: list[tuple[list[str], int]]) -> None:
        """Add a passage and its questions: (words, index of the right entity)."""
        into = self.splits[split]
        into.passages.append(self.ids(passage))
        for words, answer in questions:
            into.questions.append(self.ids(words))
            into.passage_of.append(len(into.passages.lengths) - 1)
            into.answers.append(answer)

    def finish(self, name: str, entities: int, vocabulary_size: int, counts: Counter[str]) -> tuple[ClozeArrays, np.ndarray]:
        """Encode everything with the vocabulary of the most frequent words of training passages and questions.

        Args:
            name: of the source.
            entities: number of entity names.
            vocabulary_size: number of words besides the special ones.
            counts: counts of the source as a whole.

        Returns:
            The set, and the token id of each provisional id.

        Raises:
            UserError: a split has no question.
        """
        for split, of in self.splits.items():
            of.counts["passages"], of.counts["questions"] = len(of.passages.lengths), len(of.answers)
            if not of.answers:
                found = ", ".join(f"{n} {what}" for what, n in (counts + of.counts).items()) or "no text"
                raise UserError(f"data={name}: no question is left in the split {split} ({found})")
        words, train = list(self.provisional), self.splits["train"]
        specials = [*(f"@entity{n}" for n in range(entities)), PLACEHOLDER]
        read = (words[n] for n in chain(train.passages.values, train.questions.values))
        vocabulary = Vocabulary.build([read], max_size=vocabulary_size, specials=specials)
        id_of = np.array(vocabulary.encode(words, end=False), np.int32)
        arrays = {}
        for split, of in self.splits.items():
            for what, texts in (("passage", of.passages), ("question", of.questions)):
                arrays[f"{split}_{what}s"] = id_of[np.frombuffer(texts.values, np.int32)]
                arrays[f"{split}_{what}_lengths"] = np.array(texts.lengths, np.int64)
            arrays[f"{split}_passage_of"] = np.array(of.passage_of, np.int64)
            arrays[f"{split}_answers"] = np.array(of.answers, np.int64)
        all_counts = {name: dict(counts)} | {split: dict(of.counts) for split, of in self.splits.items()}
        return ClozeArrays(vocabulary, entities, arrays, all_counts), id_of
