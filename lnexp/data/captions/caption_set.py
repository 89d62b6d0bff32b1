"""Images with captions, as features and words: any set in the layout of Karpathy's dataset_*.json, COCO, and emoji.

Shapes: I images, D features of an image.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from lnexp.data.captions import emoji
from lnexp.data.sources import user_folder
from lnexp.data.text.vocabulary import tokenize
from lnexp.errors import UserError, unknown

SPLITS = {"train": "train", "restval": "train", "val": "valid", "test": "test"}  # Karpathy's names: ours (paper 6.1)
ROWS = 8192  # of features that are checked at once
LAYOUT = "dataset_*.json[.gz] in Karpathy's layout and features.npy with a row an image, in the order of the images"


@dataclass(frozen=True)
class Image:
    """One image: its file, the split it belongs to (train, valid or test), and the words of each of its captions."""

    filename: str
    split: str
    captions: list[list[str]]


@dataclass(frozen=True)
class CaptionSet:
    """Images and features_ID, row for row, and the pictures: pixels, or the folder where their files may lie."""

    images: list[Image]
    features_ID: np.ndarray
    pictures: np.ndarray | Path

    def of(self, split: str) -> np.ndarray:
        """The rows of a split."""
        return np.array([i for i, image in enumerate(self.images) if image.split == split], np.int64)

    def picture(self, row: int, folder: Path | None = None) -> PIL.Image.Image | None:
        """The picture of a row, looked for in `folder` too; None where it is not at hand."""
        if isinstance(self.pictures, np.ndarray):
            return PIL.Image.fromarray(self.pictures[row])
        folders = [self.pictures, *(self.pictures / name for name in ("images", "Images"))]
        for place in [folder, *folders] if folder else folders:
            if (path := place / Path(self.images[row].filename).name).is_file():
                return PIL.Image.open(path)
        return None


def load(data: Mapping[str, Any], data_dir: Path) -> CaptionSet:
    """The images of a configured set, with at least one in each split.

    Args:
        data: name "emoji" (published packages, fetched at first use), or "karpathy" or "coco" (the user's own folder `root`,
            which holds the set that `set` names; of each image the first `captions` captions, None for all).
        data_dir: where downloads and prepared arrays are kept.

    Raises:
        UserError: something is missing, or does not fit together.
    """
    loaders: dict[str, Callable[[Mapping[str, Any], Path], CaptionSet]] = {
        "emoji": _emoji,
        "karpathy": _karpathy,
        "coco": _karpathy,
    }
    if data["name"] not in loaders:
        raise unknown("data", data["name"], loaders)
    found = loaders[data["name"]](data, data_dir)
    for split in ("train", "valid", "test"):
        if not len(found.of(split)):
            raise UserError(f"data={data['name']}: no image is in the split {split}")
    return found


def _emoji(data: Mapping[str, Any], data_dir: Path) -> CaptionSet:
    images, features_ID = emoji.load(data_dir)
    entries = [Image(name, split, [tokenize(text) for text in texts]) for name, split, texts in images]
    return CaptionSet(entries, features_ID, emoji.pictures(data_dir))


def _karpathy(data: Mapping[str, Any], data_dir: Path) -> CaptionSet:
    """dataset*.json[.gz] {"dataset", "images": [{"filename", "split", "sentences": [{"tokens"}]}]} and features.npy."""
    root = data["root"]
    folder = user_folder(root, ["features.npy"], LAYOUT, "see the README")
    files = sorted(p for p in folder.glob("dataset*.json*") if p.name.endswith((".json", ".json.gz")))
    if len(files) != 1:
        names = ", ".join(p.name for p in files) or "none"
        raise UserError(f"data.root={root}: found {names}; there must be one dataset*.json[.gz] ({LAYOUT})")
    try:
        raw = gzip.decompress(files[0].read_bytes()) if files[0].suffix == ".gz" else files[0].read_bytes()
        whole = json.loads(raw)
        entries = [(e["filename"], e["split"], [s["tokens"] for s in e["sentences"]]) for e in whole["images"]]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{files[0]}: not in the layout of Karpathy's dataset files ({type(error).__name__}: {error})") from error
    if (of := whole.get("dataset")) != data["set"]:
        raise UserError(f"data.set={data['set']}: {files[0].name} says that it is {of}")
    images = [_image(*entry, files[0].name, data["captions"]) for entry in entries]
    return CaptionSet(images, _features(folder / "features.npy", images), folder)


def _image(filename: str, split: str, captions: list[list[str]], file: str, wanted: int | None) -> Image:
    if split not in SPLITS:
        raise unknown(f"{file}, {filename}: split", split, SPLITS)
    if len(captions) < (wanted or 1):
        raise UserError(f"{file}, {filename}: {len(captions)} captions, at least {wanted or 1} are needed")
    for number, words in enumerate(captions[:wanted], 1):
        if not words:
            raise UserError(f"{file}, {filename}: caption {number} has no words")
    return Image(filename, SPLITS[split], captions[:wanted])


def _features(path: Path, images: list[Image]) -> np.ndarray:
    """features_ID, memory-mapped and checked."""
    try:
        features_ID = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not an array of numbers ({error})") from error
    if features_ID.ndim != 2 or features_ID.dtype.kind != "f" or len(features_ID) != len(images):
        shape = f"{features_ID.dtype} {list(features_ID.shape)}"
        raise UserError(f"{path}: {shape}, but there are {len(images)} images: must be floats [{len(images)}, features]")
    for first in range(0, len(images), ROWS):
        bad = np.flatnonzero(~np.isfinite(features_ID[first : first + ROWS]).all(axis=1))
        if len(bad):
            row = first + int(bad[0])
            raise UserError(f"{path}: row {row} ({images[row].filename}) holds NaN or infinity")
    return features_ID
