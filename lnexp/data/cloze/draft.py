"""Questions while they are collected: words get numbers as they come, and those of a vocabulary when all are there."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

import numpy as np

from lnexp.data.cloze.batches import PLACEHOLDER
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """A set that is ready to be written: `arrays` by the name of their file, the rest as in ClozeSet."""

    vocabulary: Vocabulary
    entities: int
    arrays: dict[str, np.ndarray]
    counts: dict[str, dict[str, int]]


class Texts:
    """Many texts end to end, as running numbers of their words."""

    def __init__(self) -> None:
        self.values, self.lengths = array("i"), array("i")

    def append(self, numbers: list[int]) -> None:
        self.values.extend(numbers)
        self.lengths.append(len(numbers))


@dataclass
class Split:
    """Passages and questions of one split. `counts` says what became of everything that was looked at."""

    passages: Texts = field(default_factory=Texts)
    questions: Texts = field(default_factory=Texts)
    passage_of: array = field(default_factory=lambda: array("i"))
    answers: array = field(default_factory=lambda: array("i"))
    counts: Counter[str] = field(default_factory=Counter)


class Draft:
    """All splits of a set in the making. Entities are words "@entity0", "@entity1"; the blank is PLACEHOLDER."""

    def __init__(self, splits: Iterable[str]) -> None:
        self.running: defaultdict[str, int] = defaultdict(count().__next__)
        self.splits = {split: Split() for split in splits}

    def number(self, words: Iterable[str]) -> list[int]:
        """Running numbers of words, new ones for new words."""
        return [self.running[word] for word in words]

    def add(self, split: str, passage: list[str], questions: list[tuple[list[str], int]]) -> None:
        """A passage and what is asked about it: (words, number of the entity that is right)."""
        into = self.splits[split]
        into.passages.append(self.number(passage))
        for words, answer in questions:
            into.questions.append(self.number(words))
            into.passage_of.append(len(into.passages.lengths) - 1)
            into.answers.append(answer)

    def finish(self, name: str, entities: int, vocabulary_size: int, of_all: Counter[str]) -> tuple[Prepared, np.ndarray]:
        """The set in numbers of its vocabulary, the commonest words of training passages and questions.

        Args:
            name: of the source, for the error message.
            entities: how many get a number.
            vocabulary_size: words beside the special ones.
            of_all: counts that belong to no split.

        Returns:
            The set, and the vocabulary's number of each running number.

        Raises:
            UserError: no questions are left in a split.
        """
        for split, of in self.splits.items():
            of.counts["passages"], of.counts["questions"] = len(of.passages.lengths), len(of.answers)
            if not of.answers:
                raise UserError(f"data={name}: no question is left in the split {split} ({dict(of_all + of.counts)})")
        words, train = list(self.running), self.splits["train"]
        specials = [*(f"@entity{n}" for n in range(entities)), PLACEHOLDER]
        read = (words[n] for n in chain(train.passages.values, train.questions.values))
        vocabulary = Vocabulary.build([read], max_size=vocabulary_size, specials=specials)
        number_of = np.array(vocabulary.encode(words, end=False), np.int32)
        arrays = {}
        for split, of in self.splits.items():
            for what, texts in (("passage", of.passages), ("question", of.questions)):
                arrays[f"{split}_{what}s"] = number_of[np.frombuffer(texts.values, np.int32)]
                arrays[f"{split}_{what}_lengths"] = np.array(texts.lengths, np.int64)
            arrays[f"{split}_passage_of"] = np.array(of.passage_of, np.int64)
            arrays[f"{split}_answers"] = np.array(of.answers, np.int64)
        counts = {name: dict(of_all)} | {split: dict(of.counts) for split, of in self.splits.items()}
        return Prepared(vocabulary, entities, arrays, counts), number_of


def stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of files: what a prepared set follows from, without reading them."""
    return [(path.name, (of := path.stat()).st_size, of.st_mtime_ns) for path in paths]
