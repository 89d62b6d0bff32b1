"""Questions generated from the 2,225 BBC news articles of a published package."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data.cloze import generated
from lnexp.data.cloze.builder import ClozeArrays
from lnexp.data.cloze.generated import NAMES, SENTENCES, TOKENS, Text, names_of
from lnexp.data.cloze.names import held_out, marked, name_words
from lnexp.data.sources import Wheel
from lnexp.data.text import bbc, duplicates
from lnexp.data.text.sentences import cased_sentences
from lnexp.seeding import fold

VALID = 7  # 1 / 7 of the articles are the validation set
SPAN = 6  # the sentences of a passage lie within this many consecutive ones
CHOICES = 3  # passages that start at one sentence, in training


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `prepare` reads: none."""
    return {}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `prepare` reads."""
    return [bbc.WHEEL]


def prepare(data: Mapping[str, Any], data_dir: Path) -> ClozeArrays:
    """Leave out near-duplicates, split by article, find and merge names, generate questions."""
    counts = Counter[str]()
    articles = distinct(bbc.articles(data_dir), counts)
    print(f"generating cloze questions from {len(articles)} BBC articles (seconds)", file=sys.stderr)
    names = name_words((s for text in articles.values() for s in text), at_least=3, acronyms=True)
    valid = held_out(articles, VALID, lambda name: fold(0, "bbc", name))

    def texts() -> Iterator[tuple[str, Text]]:
        for name, text in articles.items():
            yield ("valid" if name in valid else "train"), full_names([marked(s, names, "_".join) for s in text])

    random = np.random.default_rng(fold(0, "bbc passages"))

    def choose(text: Text, split: str) -> list[tuple[int, ...]]:
        return passages(text, data["entities"], random if split == "train" else None)

    sizes = data["entities"], data["vocabulary_size"]
    return generated.generate("bbc_cloze", texts(), choose, ("train", "valid"), *sizes, counts)


def distinct(articles: Iterator[tuple[str, str]], counts: Counter[str]) -> dict[str, list[list[str]]]:
    """The sentences of each article, without near-duplicates of earlier ones; `counts` gets their numbers."""
    texts = {name: cased_sentences(text) for name, text in articles}
    hashes = [np.array([duplicates.sentence_hash(s) for s in text], np.uint64) for text in texts.values()]
    found = duplicates.overlapping(duplicates.distinct(hashes))
    counts["left out: duplicates"] = int(found.sum())
    counts["texts"] = int((~found).sum())
    return {name: text for (name, text), repeats in zip(texts.items(), found, strict=True) if not repeats}


def full_names(text: Text) -> Text:
    """A text with each name replaced by the longest name of the text that contains it: "@blair" becomes "@tony_blair".

    Of equally long names the first one in the text is taken.
    """
    names = names_of([word for sentence in text for word in sentence])
    full = {}
    for name in names:
        longer = [n for n in names if f"_{name[1:]}_" in f"_{n[1:]}_"]
        full[name] = max(longer, key=lambda n: n.count("_"))
    return [[full.get(word, word) for word in sentence] for sentence in text]


def passages(text: Text, entities: int, random: np.random.Generator | None) -> list[tuple[int, ...]]:
    """Passages of four sentences with names within six consecutive ones, as indices of sentences.

    Args:
        text: an article.
        entities: maximum number of names.
        random: in training: for each first sentence, up to three random choices of the other three. None, in evaluation: passages
            that do not overlap, each from the first sentence that can start one, with the choice that has the most names.
    """
    usable = [n for n, sentence in enumerate(text) if generated.fits(sentence)]
    names = {n: set(names_of(text[n])) for n in usable}

    def count(indices: tuple[int, ...]) -> int:
        return len(set().union(*(names[n] for n in indices)))

    found: list[tuple[int, ...]] = []
    for first in usable:
        if random is None and found and first <= found[-1][-1]:
            continue
        others = [n for n in usable if first < n < first + SPAN]
        choices = [(first, *rest) for rest in combinations(others, SENTENCES - 1)]
        choices = [c for c in choices if NAMES <= count(c) <= entities and sum(len(text[n]) for n in c) <= TOKENS]
        if choices and random is None:
            found.append(max(choices, key=count))
        elif choices and random is not None:
            chosen = random.choice(len(choices), min(CHOICES, len(choices)), replace=False)
            found += [choices[n] for n in sorted(chosen)]
    return found
