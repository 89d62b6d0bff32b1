"""Near-duplicate documents, by the sentences that they share. A test or validation text must not occur in training.

Documents are compared by hashes of their sentences of 8 words or more; shorter ones occur anywhere. There are two rules, because
the committed runs were made with them and each leaves out other documents (248 and 192 of the 3,414 of `bible_bbc`):

- `repeating`, for prose: a share of 0.1 of a document's sentences occurs in any documents before it.
- `overlapping`, for cloze questions: two sentences or more, and a share of 0.3 of the shorter document's, occur in one document
  before it that was not left out itself.

Both ignore sentences that occur in most documents (`common_sentences`), such as a licence at the head of every book.

Shapes: D documents, N sentences of a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

MIN_WORDS = 8
REPEATED = 0.1  # share of a document's sentences
OVERLAP, OVERLAP_SENTENCES = 0.3, 2  # share of the shorter document's sentences, and number of sentences
COMMON, COMMON_DOCUMENTS = 2 / 3, 20  # a sentence in more than this share, or this number, of documents is ignored
COPIES = 0.8  # a document that shares more than this, of the shorter one's sentences, with another one is a copy of it


def sentence_hash(words: Sequence[str]) -> int:
    """A 64-bit hash of a sentence; 0 for a sentence of fewer than 8 words."""
    if len(words) < MIN_WORDS:
        return 0
    return int.from_bytes(blake2b(" ".join(words).lower().encode(), digest_size=8).digest(), "big")


def distinct(hashes_DN: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sorted distinct hashes of each document's long sentences."""
    unique = [np.unique(hashes_N) for hashes_N in hashes_DN]
    return [hashes_N[hashes_N > 0] for hashes_N in unique]


def common_sentences(documents: Sequence[np.ndarray]) -> np.ndarray:
    """Hashes of the sentences that occur in more than 2/3 of the documents, or in more than 20. Copies of one text count once.

    Args:
        documents: from `distinct`.
    """
    texts = [document for document, copy in zip(documents, _copies(documents), strict=True) if not copy]
    if len(texts) < 2:
        return np.zeros(0, np.uint64)
    sentences, counts = np.unique(np.concatenate(texts), return_counts=True)
    return sentences[counts > min(COMMON * len(texts), COMMON_DOCUMENTS)]


def _copies(documents: Sequence[np.ndarray]) -> list[bool]:
    """Which documents share most of their sentences with an earlier one. Sentences of more than 20 documents do not count."""
    holders: dict[int, list[int]] = {}
    for d, document in enumerate(documents):
        for h in document.tolist():
            holders.setdefault(h, []).append(d)
    copies, sizes = list[bool](), list[int]()
    for d, document in enumerate(documents):
        rare = [h for h in document.tolist() if len(holders[h]) <= COMMON_DOCUMENTS]
        shared = Counter(other for h in rare for other in holders[h] if other < d and not copies[other])
        sizes.append(len(rare))
        copies.append(not rare or any(n > COPIES * min(len(rare), sizes[other]) for other, n in shared.items()))
    return copies


def repeating(documents: Sequence[np.ndarray]) -> np.ndarray:
    """Which documents repeat earlier ones, bool [D], by the rule for prose.

    Args:
        documents: from `distinct`, without common sentences, in order of preference.
    """
    owner = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    _, first, group = np.unique(np.concatenate(documents), return_index=True, return_inverse=True)
    repeated_D = np.bincount(owner, owner[first][group] < owner, len(documents))
    return repeated_D / [max(1, len(document)) for document in documents] >= REPEATED


def overlapping(documents: Sequence[np.ndarray]) -> np.ndarray:
    """Which documents overlap with earlier ones, bool [D], by the rule for cloze questions.

    Args:
        documents: from `distinct`, without common sentences, in order of preference.
    """
    owner: dict[int, int] = {}
    found = np.zeros(len(documents), bool)
    for d, document in enumerate(documents):
        hashes = document.tolist()
        shared = Counter(owner[h] for h in hashes if h in owner)
        found[d] = any(
            n >= max(OVERLAP_SENTENCES, OVERLAP * min(len(document), len(documents[other]))) for other, n in shared.items()
        )
        if not found[d]:
            for h in hashes:
                owner.setdefault(h, d)
    return found
