"""A folder of image files of the user's, one subfolder a class, prepared once into memory-mapped arrays.

Shapes: N images, Y rows, X columns, C colours (1 or 3).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lnexp.data.images import layout, reading
from lnexp.data.sources import NAMED, Wheel, fingerprint, user_folder, user_path
from lnexp.data.text.books import ARCHIVE, is_hidden, listed
from lnexp.errors import UserError, check_choice, check_integer
from lnexp.files import prepared
from lnexp.seeding import fold

WHAT = "a folder of images for each class, or train/ and test/ with such folders; also as a tar archive"
WHERE = "the layout of torchvision's ImageFolder"
COLOURS = ("rgb", "grey")
SPLITS = ("train", "valid", "test")
REVISION = 1  # increased when a change of code changes the prepared arrays
BLOCK = 4096  # images that are copied at once


def load(data: Mapping[str, Any], data_dir: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """(pixels uint8 [N, Y, X, C], labels int64 [N]) of the splits train, valid and test, and the names of the classes.

    The label of an image is the place of its class in the sorted list of names. The order mixes the classes and does not depend
    on how files are stored. Without splits in the folder's layout they are cut by a hash of the names, see
    `lnexp.data.images.layout`. What is left out is printed with counts.

    Args:
        data: root: the folder or archive; size: side of the square that images are cropped and scaled to, None: as they are;
            colour: "rgb", "grey", or None: grey if all images are.
        data_dir: where the arrays are stored.

    Raises:
        UserError: no images, an empty class, fewer than two classes, different sizes without data.size.
    """
    root, size, colour = data["root"], data.get("size"), data.get("colour")
    check_integer("data.size", size, least=4, optional=True)
    if colour is not None:
        check_choice("data.colour", colour, COLOURS)
    identity = f"{REVISION} {fingerprint(files(data)).digest} {size} {colour}"
    names = [*(f"{split}_{of}.npy" for split in SPLITS for of in "xy"), "about.json"]
    place = data_dir / "images" / hashlib.sha256(identity.encode()).hexdigest()[:12]
    folder = prepared(place, lambda folder: _prepare(folder, source(data), str(root), size, colour), names)
    about = json.loads((folder / "about.json").read_text())
    for line in about["notes"]:
        print(f"data.root={root}: {line}", file=sys.stderr)
    arrays = {s: (np.load(folder / f"{s}_x.npy", mmap_mode="r"), np.load(folder / f"{s}_y.npy")) for s in SPLITS}
    return arrays, about["classes"]


def source(data: Mapping[str, Any]) -> Path:
    """The folder or archive that data.root names; a folder that holds one archive alone stands for it."""
    path = user_path(data["root"])
    if path.is_file():
        if not ARCHIVE.search(path.name):
            raise UserError(f"data.root={data['root']}: is a file, but no .tar archive; it should hold {WHAT}")
        return path
    folder = user_folder(data["root"], [], WHAT, WHERE)
    return reading.archive_in(folder) or folder


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that `load` reads, by name."""
    path = source(data)
    if path.is_file():
        return {path.name: path}
    found = {name: file for name, file in reading.folder_files(path).items() if file.is_file()}
    return {name: file for name, file in found.items() if reading.IMAGE.search(name) and not is_hidden(file.relative_to(path))}


def wheels(data: Mapping[str, Any]) -> list[Wheel]:
    """None: the files are the user's."""
    return []


def _prepare(folder: Path, path: Path, root: str, size: int | None, colour: str | None) -> None:
    """Write the arrays and about.json: all images as RGB into one file first, then sorted into the splits."""
    print(f"Reading the images of {root} (once)", file=sys.stderr)
    listing, left_out, raw = reading.Listing(), Counter[str](), folder / "raw"
    with raw.open("wb") as file:
        names, greys, shape, damaged = _read_all(path, listing, file, root, size)
    places, classes = layout.assign(names, listing.folders, root, left_out)
    x_NYXC = np.memmap(raw, np.uint8, "r", shape=(len(names), *shape))
    one_colour = colour == "grey" or (colour is None and all(greys))
    counts = []
    for split in SPLITS:
        rows = [k for k, place in enumerate(places) if place and place[0] == split]
        if not rows:
            raise UserError(f"data.root={root}: no image is left for the {split} set, of {len(names)}")
        rows.sort(key=lambda k: (fold(0, "order", "/".join(names[k])), names[k]))
        _copy(x_NYXC, np.array(rows), folder / f"{split}_x.npy", one_colour)
        np.save(folder / f"{split}_y.npy", np.array([places[k][1] for k in rows], np.int64))  # type: ignore[index]
        counts.append(f"{len(rows)} {split}")
    del x_NYXC
    raw.unlink()
    notes = [f"{', '.join(counts)} images of {len(classes)} classes, {shape[0]} x {shape[1]}, {'grey' if one_colour else 'RGB'}"]
    if colour is None and 0 < sum(greys) < len(greys):
        notes.append(
            f"{sum(greys)} of {len(greys)} images are grey, the others are not: all are read as RGB (or give data.colour=grey)"
        )
    if damaged:
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        count = f"{len(damaged)} damaged image{'s' * (len(damaged) > 1)}"
        notes.append(f"left out: {count} ({', '.join(damaged[:NAMED])}{more})")
    if text := listed(listing.skipped + left_out):
        notes.append(f"left out: {text}")
    (folder / "about.json").write_text(json.dumps({"classes": classes, "notes": notes}))


def _read_all(
    path: Path, listing: reading.Listing, file: BinaryIO, root: str, size: int | None
) -> tuple[list[layout.Parts], list[bool], tuple[int, ...], list[str]]:
    """Write the pixels of every image; names and greyness of the readable ones, their shape, and the names of damaged ones."""
    names: list[layout.Parts] = []
    greys, damaged, sizes = list[bool](), list[str](), Counter[tuple[int, ...]]()
    for name, content in reading.images(path, listing):
        try:
            pixels_YXC, grey = reading.decode(content, size)
        except reading.DamagedError:
            damaged.append("/".join(name))
            continue
        sizes[pixels_YXC.shape] += 1
        if len(sizes) == 1:
            file.write(pixels_YXC.tobytes())
            names.append(name)
            greys.append(grey)
    if len(sizes) > 1:
        common = ", ".join(f"{n} of {x} x {y}" for (y, x, _), n in sizes.most_common(3))
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        raise UserError(
            f"data.root={root}: images of different sizes ({common}{more}); give data.size=32, say, to scale all to one"
        )
    if not names and damaged:
        raise UserError(f"data.root={root}: none of {len(damaged)} images can be read ({', '.join(damaged[:NAMED])})")
    return names, greys, next(iter(sizes), ()), damaged


def _copy(x_NYXC: np.ndarray, rows: np.ndarray, path: Path, one_colour: bool) -> None:
    """The chosen images in that order; grey as the rounded mean that Pillow calls luma."""
    shape = (len(rows), *x_NYXC.shape[1:3], 1 if one_colour else 3)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, len(rows), BLOCK):
        block = x_NYXC[rows[start : start + BLOCK]]
        out[start : start + BLOCK] = _grey(block) if one_colour else block
    out.flush()


def _grey(x_NYXC: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma, rounded; of grey pixels their value."""
    return np.rint(x_NYXC @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)
