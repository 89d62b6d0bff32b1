"""Lines of handwriting, prepared once into memory-mapped arrays, and batches of them (paper 6.5; Graves 2013).

| data | lines |
|---|---|
| hershey | a program's: public-domain text in Hershey's single-stroke fonts (MIT) with random slant, size, wave and jitter |
| iam_ondb | IAM-OnDB, 12,178 lines of 221 writers, the set of the paper |

Shapes: L lines, N offsets of all lines, T steps, B lines of a batch, U symbols of the longest text of a batch.
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
import torch
from torch import Tensor

from lnexp.data.batches import Batches, Share, in_order, shuffled
from lnexp.data.sources import Wheel, fingerprint
from lnexp.data.strokes import hershey, iam_ondb
from lnexp.data.strokes.alphabet import OTHER, encode
from lnexp.data.text.books import listed
from lnexp.data.text.sequences import Sequences
from lnexp.errors import UserError, check_integer, unknown
from lnexp.files import prepared, write_whole

REVISION = 1  # increased when a change of code changes the prepared arrays
NAMES = ("hershey", "iam_ondb")
SPLITS = ("train", "valid", "test", "other")


@dataclass(frozen=True)
class StrokeSet:
    """Lines of handwriting.

    Attributes:
        name: of the data set.
        offsets: dx, dy, pen lifted of every line, int16 [n, 3] each, memory-mapped.
        texts: symbols of every line.
        names: of the lines.
        splits: split (train, valid, test; iam_ondb: other) -> indices of its lines.
        mean_2, std_2: of dx and dy over the training lines; the networks see (dx, dy) - mean over std (Graves 2013, section 4.2).
        counts: what was left out, and why.
    """

    name: str
    offsets: Sequences
    texts: Sequences
    names: list[str]
    splits: dict[str, np.ndarray]
    mean_2: np.ndarray
    std_2: np.ndarray
    counts: dict[str, int]

    def standardised(self, line: int, steps: int | None = None) -> np.ndarray:
        """The first `steps` offsets of a line as networks see them, float32 [n, 3]."""
        offsets = self.offsets[line][:steps].astype(np.float32)
        offsets[:, :2] = (offsets[:, :2] - self.mean_2) / self.std_2
        return offsets

    def points_per_symbol(self) -> float:
        """Mean over the training lines."""
        train = self.splits["train"]
        return float(self.offsets.lengths_N[train].sum() / self.texts.lengths_N[train].sum())


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that are read, by name."""
    return iam_ondb.files(data["root"]) if data["name"] == "iam_ondb" else {}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that are read."""
    return hershey.WHEELS if data["name"] == "hershey" else []


def load(data: Mapping[str, Any], data_dir: Path) -> StrokeSet:
    """The configured lines, prepared at first use and memory-mapped.

    Args:
        data: name "hershey" with the number of `lines`, or "iam_ondb" with the folder `root`.
        data_dir: where downloads and prepared arrays are stored.

    Raises:
        UserError: a missing or damaged file.
    """
    if data["name"] not in NAMES:
        raise unknown("data", data["name"], NAMES)
    if data["name"] == "hershey":
        check_integer("data.lines", data["lines"], least=100)
        identity = " ".join([*(wheel.sha256 for wheel in hershey.WHEELS), str(data["lines"])])
    else:
        identity = fingerprint(files(data)).digest
    folder = data_dir / "strokes" / f"{data['name']}-{hashlib.sha256(f'{REVISION} {identity}'.encode()).hexdigest()[:12]}"
    prepared(folder, lambda unfinished: _prepare(data, data_dir, unfinished), ["offsets.npy", "lines.json"])
    about = json.loads((folder / "lines.json").read_bytes())
    split_L = np.load(folder / "splits.npy")
    return StrokeSet(
        data["name"],
        Sequences(np.load(folder / "offsets.npy", mmap_mode="r"), np.load(folder / "lengths.npy")),
        Sequences(np.load(folder / "symbols.npy"), np.load(folder / "text_lengths.npy")),
        about["names"],
        {split: index for k, split in enumerate(SPLITS) if len(index := np.flatnonzero(split_L == k))},
        np.array(about["mean"], np.float32),
        np.array(about["std"], np.float32),
        about["counts"],
    )


def _prepare(data: Mapping[str, Any], data_dir: Path, folder: Path) -> None:
    """Write offsets.npy, lengths.npy, symbols.npy, text_lengths.npy, splits.npy and, last, lines.json."""
    if data["name"] == "hershey":
        lines, counts = hershey.lines(data["lines"], data_dir)
    else:
        lines, counts = iam_ondb.lines(data["root"])
    used = {line.split for line in lines}
    if missing := [split for split in ("train", "valid", "test") if split not in used]:
        raise UserError(f"data={data['name']}: no line of the {missing[0]} split is left; left out: {listed(counts) or 'none'}")
    offsets, codes = [line.offsets for line in lines], [encode(line.text) for line in lines]
    counts["symbols outside the table, written as one"] = sum(int((c == OTHER).sum()) for c in codes)
    moves = np.concatenate([line.offsets[:, :2] for line in lines if line.split == "train"]).astype(float)
    if not (moves.std(0) > 0).all():
        raise UserError(f"data={data['name']}: the pen never moves in the training lines")
    np.save(folder / "offsets.npy", np.concatenate(offsets))
    np.save(folder / "lengths.npy", np.array([len(o) for o in offsets], np.int32))
    np.save(folder / "symbols.npy", np.concatenate(codes))
    np.save(folder / "text_lengths.npy", np.array([len(c) for c in codes], np.int32))
    np.save(folder / "splits.npy", np.array([SPLITS.index(line.split) for line in lines], np.uint8))
    about = {
        "names": [line.name for line in lines],
        "mean": moves.mean(0).tolist(),
        "std": moves.std(0).tolist(),
        "counts": counts,
    }
    write_whole(folder / "lines.json", json.dumps(about).encode())
    sizes = ", ".join(f"{sum(line.split == split for line in lines):,} {split}" for split in SPLITS if split in used)
    print(f"{data['name']}: {sizes} lines; left out or replaced: {listed(counts) or 'none'}", file=sys.stderr)


def stroke_batches(
    lines: StrokeSet,
    split: str,
    batch_size: int,
    steps: int,
    seed: int | None = None,
    epoch: int = 0,
    share: Share = (0, 1),
    device: str = "cpu",
    most: int | None = None,
) -> Batches:
    """Batches of the first `steps` offsets of lines.

    Args:
        seed: None: in order, the last batch may be smaller. Else shuffled by (seed, epoch); the last incomplete batch is dropped.
        share: see `Batches`.
        device: of all tensors but lengths.
        most: without a seed, only so many lines, evenly spaced; None: all.

    Each batch is a dictionary:
        x_TB3: inputs: the offset before each step, the first one (0, 0, 1), a lifted pen.
        target_TB3: the offsets themselves.
        lengths_B: int64, on the CPU: steps of each line; both are 0 after them.
        codes_BU: symbols of the texts, int64, padded with 0; characters_B: their lengths, int64, on the CPU.
    """
    line_N = lines.splits[split]
    if seed is None and most is not None and most < len(line_N):
        line_N = line_N[np.linspace(0, len(line_N) - 1, most).round().astype(int)]

    def collate(index_B: np.ndarray, k: int) -> dict[str, Tensor]:
        line_B = line_N[index_B]
        rows = [lines.standardised(line, steps) for line in line_B]
        target_TB3 = np.zeros((max(map(len, rows)), len(rows), 3), np.float32)
        for b, row in enumerate(rows):
            target_TB3[: len(row), b] = row
        x_TB3 = np.zeros_like(target_TB3)
        x_TB3[1:] = target_TB3[:-1]
        for b, row in enumerate(rows):
            x_TB3[len(row) :, b] = 0
        x_TB3[0, :, 2] = 1
        codes_UB, characters_B = lines.texts.padded(line_B, device)
        return {
            "x_TB3": torch.from_numpy(x_TB3).to(device),
            "target_TB3": torch.from_numpy(target_TB3).to(device),
            "lengths_B": torch.tensor([len(row) for row in rows]),
            "codes_BU": codes_UB.t().contiguous(),
            "characters_B": characters_B,
        }

    index = in_order(len(line_N), batch_size) if seed is None else shuffled(len(line_N), batch_size, seed, epoch)
    return Batches(index, collate, seed, share)
