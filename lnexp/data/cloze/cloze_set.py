"""Cloze questions about passages with anonymous entities: "@entity3 beat @placeholder in the final" (paper 6.2).

Four sources, one shape: questions built from published news articles or from raw novels, DeepMind's CNN questions, and those of
the Children's Book Test. A set is prepared once, into arrays that are memory-mapped from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnexp.data.cloze import bbc as cloze_bbc
from lnexp.data.cloze import cbt as cloze_cbt
from lnexp.data.cloze import cnn as cloze_cnn
from lnexp.data.cloze import novels as cloze_novels
from lnexp.data.cloze.baselines import baselines
from lnexp.data.cloze.batches import ENTITY, PLACEHOLDER, ClozeBatches, Paraphrase, Questions
from lnexp.data.cloze.built import NAMES
from lnexp.data.cloze.draft import Prepared
from lnexp.data.text.vocabulary import Sequences, Vocabulary
from lnexp.errors import UserError, unknown
from lnexp.files import write_whole

__all__ = ["ENTITY", "PLACEHOLDER", "ClozeBatches", "ClozeSet", "Paraphrase", "Questions", "baselines", "load"]

REVISION = 1  # of what is prepared: raise it when a change of code changes the questions
SOURCES = {"bbc_cloze": cloze_bbc, "novels": cloze_novels, "cnn": cloze_cnn, "cbt": cloze_cbt}
PERMUTE = ("batch", "example")
DRAWN = ("keep", "replace", "permute", "root", "test_root", "set")  # keys that what is prepared does not depend on, files apart
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ClozeSet:
    """Questions by split, and their words.

    Attributes:
        name: of the source.
        vocabulary: END, UNKNOWN, the entities @entity0.. , the placeholder, then words from common to rare.
        entities: how many the vocabulary has names for.
        splits: train, valid, and test where the source has it.
        counts: for each split, and for the source as a whole, what was kept and what was left out and why.
    """

    name: str
    vocabulary: Vocabulary
    entities: int
    splits: dict[str, Questions]
    counts: dict[str, dict[str, int]]


def load(data: Mapping[str, Any], data_dir: Path) -> ClozeSet:
    """The questions of a configured source, prepared at first use.

    Args:
        data: name "bbc_cloze" (a published package, fetched at first use), or "novels", "cnn" or "cbt" (the user's own files, at
            `root`), and the other keys of configs/data/<name>.yaml.
        data_dir: where downloads and prepared arrays are kept.

    Raises:
        UserError: a value is not allowed, or a file is missing or not what it should be.
    """
    data = dict(data)
    if data["name"] not in SOURCES:
        raise unknown("data", data["name"], SOURCES)
    _check(data)
    source = SOURCES[data["name"]]
    settled = {name: value for name, value in sorted(data.items()) if name not in DRAWN}
    identity = json.dumps([REVISION, settled, source.identity(data)])
    folder = data_dir / "cloze" / f"{data['name']}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not folder.exists():
        _write(source.prepare(data, data_dir), folder)
    return _open(folder, data)


def _check(data: Mapping[str, Any]) -> None:
    """One clear line for a value that makes no sense."""
    if data["permute"] not in PERMUTE:
        raise unknown("data.permute", data["permute"], PERMUTE)
    if not isinstance(data["vocabulary_size"], int) or data["vocabulary_size"] < 1:
        raise UserError(f"data.vocabulary_size={data['vocabulary_size']}: must be a whole number of words, 1 or more")
    if "entities" in data and (not isinstance(data["entities"], int) or data["entities"] < NAMES):
        raise UserError(f"data.entities={data['entities']}: must be a whole number, {NAMES} or more")
    for key in ("keep", "replace"):
        value = data.get(key, 1)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"data.{key}={value}: must be a probability, from 0 to 1")


def _write(prepared: Prepared, folder: Path) -> None:
    """Write a prepared set beside its place and rename it, so that it is there whole or not at all."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    prepared.vocabulary.save(temporary / "vocabulary.json")
    facts = {"entities": prepared.entities, "counts": prepared.counts}
    write_whole(temporary / "facts.json", json.dumps(facts, indent=1).encode())
    for name, array in prepared.arrays.items():
        np.save(temporary / f"{name}.npy", array)
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(temporary)  # another process was faster, with the same arrays
    print(f"{folder.name}: {json.dumps(prepared.counts)}", file=sys.stderr)


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
