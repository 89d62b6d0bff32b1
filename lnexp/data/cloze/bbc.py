"""Questions built from the 2,225 BBC news articles of a published package."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data.cloze import built as cloze_built
from lnexp.data.cloze.built import NAMES, SENTENCES, TOKENS, Text, names_of
from lnexp.data.cloze.draft import Prepared
from lnexp.data.cloze.names import Seen, held_out, marked, name_words, sentences
from lnexp.data.text import bbc
from lnexp.seeding import fold

VALID = 7  # one article in so many is for validation
SPAN = 6  # the sentences of a passage lie within so many consecutive ones
CHOICES = 3  # passages that start at one sentence, in training


def identity(data: Mapping[str, Any]) -> list[object]:
    """What the set follows from, apart from the keys of `data`."""
    return [bbc.WHEEL.sha256]


def prepare(data: Mapping[str, Any], data_dir: Path) -> Prepared:
    """Split by article after duplicates are gone, find and merge names, build questions."""
    counts = Counter[str]()
    articles = distinct(bbc.articles(data_dir), counts)
    print(f"building cloze questions from {len(articles)} BBC articles (seconds)", file=sys.stderr)
    names = name_words((s for text in articles.values() for s in text), at_least=3, acronyms=True)
    valid = held_out(articles, VALID, lambda name: fold(0, "bbc", name))

    def texts() -> Iterator[tuple[str, Text]]:
        for name, text in articles.items():
            yield ("valid" if name in valid else "train"), full_names([marked(s, names, "_".join) for s in text])

    drawn = np.random.default_rng(fold(0, "bbc passages"))

    def choose(text: Text, split: str) -> list[tuple[int, ...]]:
        return passages(text, data["entities"], drawn if split == "train" else None)

    sizes = data["entities"], data["vocabulary_size"]
    return cloze_built.prepare("bbc_cloze", texts(), choose, ("train", "valid"), *sizes, counts)


def distinct(articles: Iterator[tuple[str, str]], counts: Counter[str]) -> dict[str, list[list[str]]]:
    """Sentences by article, without those that were there before; `counts` says how many."""
    seen, kept = Seen(), {}
    for name, text in articles:
        found = sentences(text)
        if seen.before(found):
            counts["left out: duplicates"] += 1
        else:
            kept[name] = found
    counts["texts"] = len(kept)
    return kept


def full_names(text: Text) -> Text:
    """Short forms joined with full names: a name is taken for the longest name of its article that contains it, if any.

    "@blair" becomes "@tony_blair"; of equally long ones the first mentioned counts.
    """
    names = names_of([word for sentence in text for word in sentence])
    full = {}
    for name in names:
        longer = [n for n in names if f"_{name[1:]}_" in f"_{n[1:]}_"]
        full[name] = max(longer, key=lambda n: n.count("_"))
    return [[full.get(word, word) for word in sentence] for sentence in text]


def passages(text: Text, entities: int, drawn: np.random.Generator | None) -> list[tuple[int, ...]]:
    """Four sentences with names within six consecutive ones, as places in the text, in order.

    Args:
        text: an article.
        entities: passages with more names are left out.
        drawn: in training, from each first sentence up to three random choices of the others. None, for evaluation: from the
            first sentence that can start one, the choice with the most names, and on behind its end, so that none overlap.
    """
    usable = [n for n, sentence in enumerate(text) if cloze_built.fits(sentence)]
    names = {n: set(names_of(text[n])) for n in usable}

    def many(places: tuple[int, ...]) -> int:
        return len(set().union(*(names[n] for n in places)))

    found: list[tuple[int, ...]] = []
    for first in usable:
        if drawn is None and found and first <= found[-1][-1]:
            continue
        others = [n for n in usable if first < n < first + SPAN]
        choices = [(first, *rest) for rest in combinations(others, SENTENCES - 1)]
        choices = [c for c in choices if NAMES <= many(c) <= entities and sum(len(text[n]) for n in c) <= TOKENS]
        if choices and drawn is None:
            found.append(max(choices, key=many))
        elif choices and drawn is not None:
            picked = drawn.choice(len(choices), min(CHOICES, len(choices)), replace=False)
            found += [choices[n] for n in sorted(picked)]
    return found
