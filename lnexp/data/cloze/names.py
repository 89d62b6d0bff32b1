"""Names in English text: finds the words of names by their capitals, and marks names in sentences.

"said Mr Tony Blair" becomes said, mr, @tony_blair. Sentences are those of `lnexp.data.text.sentences.cased_sentences`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

OPENING = {".", "?", "!", ":", ";", '"', "(", "--"}  # a word after one of these may be capitalised without being a name

TITLES = """mr mrs ms miss dr sir ma'am lady lord st messrs mme mdlle esq rev hon capt captain col colonel gen general lieut prof
    madame mademoiselle monsieur master king queen prince princess duke duchess count countess baron earl doctor uncle aunt cousin
    father mother mamma papa grandfather sister brother"""
TIMES = """monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
    october november december christmas"""
PEOPLES = "english french german italian spanish american irish scotch british roman greek latin christian jew indian"
OTHERS = "god lord heaven christ jesus i'm i'd i've i'll ah dear chapter book volume iii vii viii xii"
NEVER = frozenset(" ".join((TITLES, TIMES, PEOPLES, OTHERS)).split())


def name_words(text: Iterable[list[str]], at_least: int, acronyms: bool) -> dict[str, int]:
    """Words of names, in lower case, with the number of times that each is capitalised within a sentence.

    Args:
        text: sentences.
        at_least: minimum of this number; it must also be 9 times the number in lower case. Titles, days, months and peoples are
            no names.
        acronyms: whether words of three capitals or more count. They do in news, not in novels, which have headings and shouting.
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
    """A sentence in lower case, with numbers as #num and each run of capitalised name words as one word "@" + merge(run).

    A possessive ends its run: "Blair's Britain" is two names.
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
    """The validation texts: the first 1 / one_in of the names, at least one, when sorted by `order`, a random number per name."""
    ranked = sorted(names, key=order)
    return set(ranked[: max(1, len(ranked) // one_in)])
