"""Sentences: where they end and where they only seem to, wrapped lines, typography."""

from __future__ import annotations

import pytest

from lnexp.data.text.sentences import paragraphs, plain, sentences, split


@pytest.mark.parametrize(
    "marked",
    [
        "He left. | She stayed! | Did they? | Yes.",
        "Mr. Low met Dr. Kay and Mrs. Orr at St. Ives. | It rained.",
        "J. R. Smith lives in the U.S. Army's house. | A. Jones does not.",
        "So do I. | We all do.",
        "See No. 7 on p. 12 and come on Dec. 25. | No. | They will not.",
        "They open at 5 p.m. | We wait, i.e. Ann waits.",
        '"Look at that!" gasped Ann. | "It is gone." | Then nothing.',
        "'Is it you?' said Tom. | 'Who else?' | (So it was.) | He sat down.",
        '"I am Mr." | He stopped there.',
        "I... I cannot say... | But wait... no, go on... | It is late.",
        "It cost $1.13 a pound. | £2 was too much. | 3 were sold.",
        "It was over! -- they said so. | -- Not at all.",  # as `plain` leaves dashes
        "À la carte, please. | Élan is all. | Ça va.",
    ],
)
def test_a_bar_marks_each_end(marked: str) -> None:
    assert list(split(marked.replace(" | ", " "))) == marked.split(" | ")


def test_plain_typography() -> None:
    assert plain("‘It’s’ “so” ``or'' God`s") == "'It's' \"so\" \"or\" God's"
    assert plain("yes—no – a--b ---- c") == "yes -- no -- a -- b -- c"
    assert plain("well… so . . . then .... [end] _so_") == "well... so ... then ... (end) so"
    assert plain("one. Two") == "one. Two"


def test_lines_of_wrapped_books_are_joined_and_paragraphs_end_sentences() -> None:
    text = "CHAPTER I\r\n\r\nIt was a long\r\nday. The sun\r\nset\r\n   \r\n  * * *\r\n\r\nNext day it rose.\r\n"
    assert list(sentences(text)) == ["CHAPTER I", "It was a long day.", "The sun set", "Next day it rose."]


def test_without_blank_lines_long_lines_are_paragraphs_and_short_ones_are_joined() -> None:
    long = "word " * 30
    assert list(paragraphs(f"Title\n{long}\n{long}")) == ["Title", long.strip(), long.strip()]
    assert list(paragraphs("one line\nanother line")) == ["one line another line"]
    assert list(paragraphs(" \n\n")) == list(paragraphs("")) == []


def test_every_letter_stays_in_order() -> None:
    """Splitting loses spaces only: no text between sentences is dropped or doubled."""
    text = 'Mr. A. said: "No... I do not." He went. " Odd ? " Yes! (Well.) It is 5 p.m. now; etc. And so on...\n\nEnd'
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
