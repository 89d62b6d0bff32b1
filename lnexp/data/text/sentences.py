"""Sentences of English prose: typography made plain, wrapped lines joined, paragraphs cut where a sentence ends.

Rules, not a model. A sentence ends at . ! or ?, with the quotes and brackets that close behind it, if a capital or a digit
follows; a paragraph ends one too. Not at a full stop after a title (Mr.), an initial (J. Smith, U.S.) or an abbreviation of a
number (No. 7), and not at an ellipsis before the word I. So words of speech and who says them are one sentence when the teller
goes on in lower case ("Stop!" she said.), and two when a name follows ("Stop!" Mary said.): letters alone do not tell.
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
SHORT_LINE = 100  # characters; books wrapped by hand or by program have fewer in a line


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text in order, in plain typography; what has neither letter nor digit is left out."""
    for paragraph in paragraphs(plain(text)):
        yield from split(paragraph)


def plain(text: str) -> str:
    """A text with straight quotes, dashes as -- with space around, ellipses as three dots, round brackets and no italics."""
    return DASHES.sub(" -- ", DOTS.sub("...", text.translate(PLAIN).replace("''", '"')))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text, each as one line.

    Blank lines part them. A text with hardly any (fewer than one line in fifty) has one paragraph a line, unless all its lines
    are as short as wrapped ones.
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
            if (sentence := paragraph[start : stop.end()].rstrip()) and _says_something(sentence):
                yield sentence
            start = stop.end()
    if _says_something(paragraph[start:]):
        yield paragraph[start:].strip()


def _ends(paragraph: str, stop: re.Match[str]) -> bool:
    """Whether a sentence ends at what looks like its end."""
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


def _says_something(text: str) -> bool:
    return any(map(str.isalnum, text))
