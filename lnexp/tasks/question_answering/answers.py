"""Answers of a reader, and a picture of its attention.

The picture shows each passage, a token the darker the more attention it gets, the question, the answer and the correct one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from lnexp.data.batches import Batches

COLUMNS = 110  # characters in a line
FONT, LINE = 8.0, 14.0  # size of the letters and of a line, in points
WIDTH = 0.602 * FONT / 72  # of a letter of matplotlib's monospaced font, in inches


@dataclass(frozen=True)
class Answered:
    """A question, its passage, the attention to each token of the passage (sum 1), the answer given and the correct one."""

    passage: list[str]
    attention: np.ndarray
    question: list[str]
    given: str
    true: str


@torch.no_grad()
def answer(model: nn.Module, batches: Batches, words: Sequence[str], first_answer: int, n: int) -> list[Answered]:
    """The model's answers to n questions, evenly spaced over `batches`.

    Args:
        batches: of one question each, such as those of a validation set from the shortest passage to the longest.
        words: the vocabulary.
        first_answer: token id of the model's first answer.
    """
    found = []
    for k in np.linspace(0, len(batches) - 1, n).round().astype(int):
        batch = batches[int(k)]
        logits_BA, alpha_TB = model(batch)
        passage, question = ([words[w] for w in batch[text][:, 0]] for text in ("passage_TB", "question_SB"))
        given, true = int(logits_BA.argmax()) + first_answer, int(batch["answer_B"])
        found.append(Answered(passage, alpha_TB[:, 0].cpu().numpy(), question, words[given], words[true]))
    return found


def placed(words: list[str], columns: int = COLUMNS) -> list[tuple[int, int]]:
    """(line, column) of each word's first letter in lines of `columns` letters; a longer word gets a line of its own."""
    places, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > columns:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(word) + 1
    return places


def draw(found: list[Answered]) -> Figure:
    """All questions below one another on one page."""
    blocks = [(a, placed(a.passage), placed(["question:", *a.question])) for a in found]
    lines = sum(passage[-1][0] + question[-1][0] + 4 for _, passage, question in blocks)
    figure = Figure(figsize=(COLUMNS * WIDTH, lines * LINE / 72))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    ax.axis("off")

    def write(line: float, column: int, text: str, colour: str = "black") -> None:
        ax.text(column, line + 0.5, text, family="monospace", fontsize=FONT, va="center", color=colour, parse_math=False)

    top = 0
    for a, passage, question in blocks:
        for word, weight, (line, column) in zip(a.passage, a.attention / a.attention.max(), passage, strict=True):
            ax.add_patch(Rectangle((column, top + line), len(word), 1, color="#1b6ca8", alpha=0.6 * weight, linewidth=0))
            write(top + line, column, word)
        top += passage[-1][0] + 1
        for word, (line, column) in zip(["question:", *a.question], question, strict=True):
            write(top + line, column, word)
        top += question[-1][0] + 1
        write(top, 0, f"answer: {a.given}, true: {a.true}", "#2a9d60" if a.given == a.true else "#c03030")
        top += 2
    return figure
