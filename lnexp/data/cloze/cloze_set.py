"""Cloze questions about passages with anonymous entities: "@entity3 beat @placeholder in the final" (paper 6.2).

Four sources: questions generated from published news articles or from novels, DeepMind's CNN questions, and the Children's Book
Test. A set is prepared once, into memory-mapped arrays.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data.cloze import bbc, cbt, cnn, novels
from lnexp.data.cloze.batches import Paraphrase, Questions
from lnexp.data.cloze.builder import ClozeArrays
from lnexp.data.cloze.generated import NAMES
from lnexp.data.sources import Wheel, fingerprint
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.errors import UserError, unknown
from lnexp.files import prepared, write_whole

REVISION = 1  # increased when a change of code changes the prepared arrays
SOURCES = {"bbc_cloze": bbc, "novels": novels, "cnn": cnn, "cbt": cbt}
PERMUTE, PASSAGES = ("batch", "example"), ("top4", "full")
NOT_PREPARED = ("keep", "replace", "permute", "root", "test_root", "set")  # keys that do not affect the prepared arrays
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ClozeSet:
    """Questions by split, and their vocabulary.

    Attributes:
        name: of the source.
        vocabulary: END, UNKNOWN, the entities @entity0 .., the placeholder, then words by falling frequency.
        entities: number of entity names in the vocabulary.
        splits: train, valid, and test if the source has it.
        counts: for each split, and for the source as a whole, numbers of texts and questions used and left out, by reason.
    """

    name: str
    vocabulary: Vocabulary
    entities: int
    splits: dict[str, Questions]
    counts: dict[str, dict[str, int]]


def load(data: Mapping[str, Any], data_dir: Path) -> ClozeSet:
    """The questions of a configured source, prepared at first use.

    Args:
        data: name "bbc_cloze" (a published package, downloaded at first use), or "novels", "cnn" or "cbt" (the user's files in
            `root`), and the other keys of configs/data/<name>.yaml.
        data_dir: where downloads and prepared arrays are stored.

    Raises:
        UserError: a value is not allowed, or a file is missing or damaged.
    """
    data = dict(data)
    if data["name"] not in SOURCES:
        raise unknown("data", data["name"], SOURCES)
    _check(data)
    source = SOURCES[data["name"]]
    options = {name: value for name, value in sorted(data.items()) if name not in NOT_PREPARED}
    found = files(data)
    content = [wheel.sha256 for wheel in wheels(data)] + ([fingerprint(found).digest] if found else [])
    identity = json.dumps([REVISION, options, content])
    folder = data_dir / "cloze" / f"{data['name']}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    prepared(folder, lambda folder: _write(source.prepare(data, data_dir), folder), ["facts.json"])
    return _open(folder, data)


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `load` reads, by name."""
    return SOURCES[data["name"]].files(data)


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `load` reads."""
    return SOURCES[data["name"]].wheels(data)


def _check(data: Mapping[str, Any]) -> None:
    """Raise a UserError for the first value that is out of range."""
    if data["permute"] not in PERMUTE:
        raise unknown("data.permute", data["permute"], PERMUTE)
    if not isinstance(data["vocabulary_size"], int) or data["vocabulary_size"] < 1:
        raise UserError(f"data.vocabulary_size={data['vocabulary_size']}: must be a whole number of words, 1 or more")
    if "entities" in data and (not isinstance(data["entities"], int) or data["entities"] < NAMES):
        raise UserError(f"data.entities={data['entities']}: must be a whole number, {NAMES} or more")
    if data["name"] == "cnn" and data["passage"] not in PASSAGES:
        raise unknown("data.passage", data["passage"], PASSAGES)
    for key in ("keep", "replace"):
        value = data.get(key, 1)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"data.{key}={value}: must be a probability, from 0 to 1")


def _write(made: ClozeArrays, folder: Path) -> None:
    made.vocabulary.save(folder / "vocabulary.json")
    for name, array in made.arrays.items():
        np.save(folder / f"{name}.npy", array)
    facts = {"entities": made.entities, "counts": made.counts}
    write_whole(folder / "facts.json", json.dumps(facts, indent=1).encode())
    for name, counts in made.counts.items():
        if any(counts.values()):
            print(f"{name}: {', '.join(f'{n:,} {what}' for what, n in counts.items() if n)}", file=sys.stderr)


def _open(folder: Path, data: Mapping[str, Any]) -> ClozeSet:
    facts = json.loads((folder / "facts.json").read_text())
    vocabulary = Vocabulary.load(folder / "vocabulary.json")

    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    paraphrase = None
    if "keep" in data:
        dropped_V = np.array([not (word[0].isalpha() or word in ("#num", "<unk>")) for word in vocabulary.words])
        paraphrase = Paraphrase(data["keep"], data["replace"], np.array(array("neighbours")), dropped_V)
    splits = {}
    for split in SPLITS:
        if (folder / f"{split}_answers.npy").exists():
            splits[split] = Questions(
                passages=Sequences(array(f"{split}_passages"), array(f"{split}_passage_lengths")),
                questions=Sequences(array(f"{split}_questions"), array(f"{split}_question_lengths")),
                passage_N=np.array(array(f"{split}_passage_of")),
                answer_N=np.array(array(f"{split}_answers")),
                entities=facts["entities"],
                permute=data["permute"],
                paraphrase=paraphrase,
            )
    return ClozeSet(data["name"], vocabulary, facts["entities"], splits, facts["counts"])
