"""Splits English text into sentences, by rules.

There are two splitters, because the committed runs were made with them and each gives other sentences:

- `sentences`, for prose: text with normalised typography and joined lines. A sentence ends at . ! or ? with closing quotes and
  brackets, if a capital or a digit follows, and at the end of a paragraph; not after a title (Mr.), an initial (J. Smith, U.S.),
  an abbreviation before a number (No. 7), nor at an ellipsis before the word I. So direct speech and its speaker are one sentence
  if lower case follows ("Stop!" she said.), two if a name follows ("Stop!" Mary said.).
- `cased_sentences`, for cloze questions: words in their own case, from which names are recognised. It knows fewer abbreviations,
  and a paragraph ends at a blank line only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "‛": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "—": "--", "―": "--", "–": "--"}
    | {"…": "...", "[": "(", "]": ")", "_": None, "\u00a0": " ", "\u00ad": None}  # _so_ are italics marked in plain texts
)
DASHES, DOTS = re.compile(r" *-{2,} *"), re.compile(r"\.(?:[ \u00a0]?\.)+")

STOP = re.compile(r"""([.!?])(["')]*)\s+(?=(?:-- )?["'(]*[A-ZÀ-ÖØ-Þ\d£$])""")
TITLE = re.compile(
    r"mrs?|ms|messrs|mme|mlle|dr|prof|st|rev|hon|capt|col|gen|lieut|lt|sergt|sgt|maj|adm|gov|sen|rep|sr|mt|ft|viz|vs|cf|i\.e|e\.g",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"nos?|vols?|ch|chap|pp?|figs?|sec|jan|feb|mar|apr|aug|sept?|oct|nov|dec", re.IGNORECASE)
I_FOLLOWS = re.compile(r"I\b")
SHORT_LINE = 100  # characters; the lines of wrapped texts are shorter

# For `cased_sentences`. A word is letters, joined by - or ' to more; else a number; else a punctuation mark.
TOKEN = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*|\d[\d,.]*|[.,;:!?\"()]|--")
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|Messrs|Mme|Mdlle|Esq|Rev|Hon|Capt|Col|Gen|Lieut|Prof|[A-Z])\.")
CASED_STOP = re.compile(r"(?<=[.!?])[\"')]{0,2}\s+(?=[\"'(]*[A-Z0-9])")
CASED_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "—": " -- ", "–": " -- ", "_": "", "\r": "", "\ufeff": ""}
)


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text in order, in plain typography; those without a letter or digit are dropped."""
    for paragraph in paragraphs(plain(text)):
        yield from split(paragraph)


def cased_sentences(text: str) -> list[list[str]]:
    """The sentences of two words or more, as words and punctuation marks in their own case."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.translate(CASED_PLAIN)):
        one_line = ABBREVIATION.sub(r"\1", " ".join(paragraph.split()))
        found += [words for part in CASED_STOP.split(one_line) if len(words := TOKEN.findall(part)) >= 2]
    return found


def plain(text: str) -> str:
    """A text with straight quotes, dashes as -- with space around, ellipses as three dots, round brackets and no italics."""
    return DASHES.sub(" -- ", DOTS.sub("...", text.translate(PLAIN).replace("''", '"')))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text, each as one line.

    Paragraphs are separated by blank lines. A text in which fewer than 1 line in 50 is blank has one paragraph per line, unless
    all its lines are short, as in a wrapped text.
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    wrapped = lines.count("") * 50 >= len(lines) or max(map(len, lines), default=0) <= SHORT_LINE
    for filled, group in groupby(lines, key=bool):
        if filled:
            joined = " ".join if wrapped else "\n".join
            yield from joined(group).split("\n")


def split(paragraph: str) -> Iterator[str]:
    """The sentences of one paragraph of plain text."""
    start = 0
    for stop in STOP.finditer(paragraph):
        if _ends(paragraph, stop):
            if (sentence := paragraph[start : stop.end()].rstrip()) and _has_content(sentence):
                yield sentence
            start = stop.end()
    if _has_content(paragraph[start:]):
        yield paragraph[start:].strip()


def _ends(paragraph: str, stop: re.Match[str]) -> bool:
    """Whether a sentence ends at this match of STOP."""
    mark, closing = stop.groups()
    if mark != "." or closing:
        return True
    word = paragraph[paragraph.rfind(" ", 0, stop.start()) + 1 : stop.start()].lstrip("\"'(")
    if word.endswith(".."):
        return not I_FOLLOWS.match(paragraph, stop.end())
    if TITLE.fullmatch(word) or (NUMBERED.fullmatch(word) and paragraph[stop.end()].isdigit()):
        return False
    initial = word[-1:].isupper() and not word[-2:-1].isalpha()
    return not initial or word == "I"


def _has_content(text: str) -> bool:
    return any(map(str.isalnum, text))
