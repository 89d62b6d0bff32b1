"""Raw English text to sentences of words, names found and marked: "said Mr Tony Blair" becomes said, mr, @tony_blair."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

# Names need capitals, so that text.tokenize, which lowers them, cannot be used. A word is letters, joined by - or ' to more; else
# a number; else one of the marks that end or part sentences. All other signs are left out.
TOKEN = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*|\d[\d,.]*|[.,;:!?\"()]|--")
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|Messrs|Mme|Mdlle|Esq|Rev|Hon|Capt|Col|Gen|Lieut|Prof|[A-Z])\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]{0,2}\s+(?=[\"'(]*[A-Z0-9])")
PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "—": " -- ", "–": " -- ", "_": "", "\r": "", "\ufeff": ""}
)
OPENING = {".", "?", "!", ":", ";", '"', "(", "--"}  # a word behind one of these may be capitalised for its place alone

TITLES = """mr mrs ms miss dr sir ma'am lady lord st messrs mme mdlle esq rev hon capt captain col colonel gen general lieut prof
    madame mademoiselle monsieur master king queen prince princess duke duchess count countess baron earl doctor uncle aunt cousin
    father mother mamma papa grandfather sister brother"""
TIMES = """monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
    october november december christmas"""
PEOPLES = "english french german italian spanish american irish scotch british roman greek latin christian jew indian"
OTHERS = "god lord heaven christ jesus i'm i'd i've i'll ah dear chapter book volume iii vii viii xii"
NEVER = frozenset(" ".join((TITLES, TIMES, PEOPLES, OTHERS)).split())


def sentences(text: str) -> list[list[str]]:
    """The sentences of two words or more, as words and marks in their own capitals; a blank line ends a paragraph."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.translate(PLAIN)):
        plain = ABBREVIATION.sub(r"\1", " ".join(paragraph.split()))
        found += [words for part in SENTENCE_END.split(plain) if len(words := TOKEN.findall(part)) >= 2]
    return found


class Seen:
    """The sentences of texts so far: tells whether a text has been there before, whole or in large part."""

    WORDS, SHARE = 8, 0.3

    def __init__(self) -> None:
        self.first: dict[bytes, int] = {}
        self.sizes: list[int] = []

    def before(self, text: list[list[str]]) -> bool:
        """Whether an earlier text shares sentences of eight words or more: two or more, and three in ten of the shorter's.

        A text that has not been seen is remembered.
        """
        long = {" ".join(s).lower() for s in text if len(s) >= self.WORDS}
        marks = {hashlib.blake2b(sentence.encode(), digest_size=8).digest() for sentence in long}
        shared = Counter(self.first[mark] for mark in marks if mark in self.first)
        if any(n >= max(2, self.SHARE * min(len(marks), self.sizes[text])) for text, n in shared.items()):
            return True
        for mark in marks:
            self.first.setdefault(mark, len(self.sizes))
        self.sizes.append(len(marks))
        return False


def name_words(text: Iterable[list[str]], at_least: int, acronyms: bool) -> dict[str, int]:
    """Words of names, in lower case, and how often each is capitalised in mid-sentence.

    Args:
        text: sentences.
        at_least: so often, and nine times as often as in lower case; titles, days, months and peoples are none.
        acronyms: whether words of three capitals or more count (in news), or not (in novels, which have headings and shouting).
    """
    lower, capital = Counter[str](), Counter[str]()
    for sentence in text:
        for before, word in pairwise([".", *sentence]):
            stem = word.removesuffix("'s")
            if stem[:1].islower():
                lower[stem.lower()] += 1
            elif stem[:1].isupper() and len(stem) > 2 and before not in OPENING and (acronyms or not stem.isupper()):
                capital[stem.lower()] += 1
    return {w: n for w, n in capital.items() if n >= at_least and n >= 9 * lower[w] and w not in NEVER}


def marked(sentence: list[str], names: dict[str, int], merge: Callable[[list[str]], str]) -> list[str]:
    """A sentence in lower case, numbers as #num, each run of capitalised name words as one word "@" + merge(run).

    A possessive ends its run: "Blair's Britain" are two names.
    """
    out: list[str] = []
    run: list[str] = []
    for word in [*sentence, ""]:
        stem = word.removesuffix("'s")
        name = stem.lower() if stem[:1].isupper() and stem.lower() in names else ""
        if run and not name:
            out.append("@" + merge(run))
            run = []
        if name:
            run.append(name)
            if stem != word:
                out.append("@" + merge(run))
                run = []
        elif word:
            out.append("#num" if word[0].isdigit() else word.lower())
    return out


def held_out(names: Iterable[str], one_in: int, order: Callable[[str], int]) -> set[str]:
    """One text in so many, at least one, that are kept for validation: the first by `order`, a random number of each name."""
    ranked = sorted(names, key=order)
    return set(ranked[: max(1, len(ranked) // one_in)])
