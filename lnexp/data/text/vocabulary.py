"""Tokens and vocabularies. A vocabulary is stored as a JSON list, never as a pickle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from lnexp.errors import UserError
from lnexp.files import write_whole

END, UNKNOWN = 0, 1  # token ids: end of sentence, which is also the padding; a word that is not in the vocabulary


def tokenize(text: str) -> list[str]:
    """The tokens of a text in lower case, punctuation marks as tokens (torchtext's "basic_english")."""
    return _tokenizer()(text)


@cache
def _tokenizer() -> Callable[[str], list[str]]:
    from lnexp.data.text.torchtext_adapter import basic_english

    return basic_english()


class Vocabulary:
    """Words and their token ids: special words first, then words by falling frequency, ties in alphabetical order.

    Args:
        words: all words; the position in the list is the token id. The first two are "<end>" and "<unk>".

    Attributes:
        words: the words.
        ids: word -> token id.

    Raises:
        ValueError: the list does not start with the two special words, or holds a word twice.
    """

    SPECIALS = ("<end>", "<unk>")

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.ids = {word: n for n, word in enumerate(self.words)}
        if tuple(self.words[:2]) != self.SPECIALS or len(self.ids) != len(self.words):
            raise ValueError(f"a vocabulary starts with {self.SPECIALS} and holds every word once")

    @classmethod
    def build(
        cls, sentences: Iterable[Iterable[str]], max_size: int | None = None, min_freq: int = 1, specials: Sequence[str] = ()
    ) -> Vocabulary:
        """The vocabulary of tokenized sentences.

        Args:
            max_size: number of words besides the special ones; None: all.
            min_freq: words that occur less often are left out.
            specials: further special words, with the ids after END and UNKNOWN.
        """
        from lnexp.data.text.torchtext_adapter import most_frequent

        counts = Counter(word for sentence in sentences for word in sentence)
        return cls(most_frequent(counts, max_size, min_freq, [*cls.SPECIALS, *specials]))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str], end: bool = True) -> list[int]:
        """The token ids of words, UNKNOWN for words that are not in the vocabulary, followed by END if `end`."""
        return [self.ids.get(word, UNKNOWN) for word in words] + [END] * end

    def save(self, path: Path) -> None:
        """Write the words as a JSON list."""
        write_whole(path, json.dumps(self.words, ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file written by `save`."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a vocabulary ({error})") from error
