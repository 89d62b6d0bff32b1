"""Image files of a folder or of a tar archive, one after the other. Nothing is unpacked to disk.

Pillow decodes them, restricted to formats of pixels: others, such as PostScript, would start programs.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import tarfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from lnexp.data.text.books import ARCHIVE, decompressed, is_hidden, suffix_of
from lnexp.errors import UserError

IMAGE = re.compile(r"\.(jpe?g|png|ppm|pgm|bmp|tiff?|webp|gif)$", re.IGNORECASE)
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes; others have more bits a colour
MOST_PIXELS = 1 << 26  # of one file; a small file can decode to any size


class DamagedError(Exception):
    """An image file that cannot be decoded."""


@dataclass
class Listing:
    """What a folder or archive holds.

    Attributes:
        folders: parts of the names of all folders.
        skipped: reason -> number of files that are not read.
    """

    folders: set[tuple[str, ...]] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)


def folder_files(root: Path) -> dict[str, Path]:
    """The files of a folder, whose subfolders and symbolic links are followed, by their names relative to it, sorted."""
    found, visited = dict[str, Path](), set[str]()
    for parent, folders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:  # a symbolic link to a folder above it
            folders.clear()
            continue
        visited.add(real)
        found |= {Path(parent, name).relative_to(root).as_posix(): Path(parent, name) for name in names}
    return dict(sorted(found.items()))


def images(root: Path, listing: Listing) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """(parts of the name, content) of every image file in a folder or archive; fills `listing` on the way.

    Raises:
        UserError: a file cannot be read, or an archive is incomplete.
    """
    if root.is_file():
        yield from _members(root, listing)
        return
    for parent, folders, _ in os.walk(root, followlinks=True):
        folders.sort()
        listing.folders.add(Path(parent).relative_to(root).parts)
        if len(Path(parent).relative_to(root).parts) > 9:  # deeper than any class: a link to a folder above it
            folders.clear()
    for name, path in folder_files(root).items():
        if _wanted(PurePosixPath(name), listing):
            try:
                yield PurePosixPath(name).parts, path.read_bytes()
            except FileNotFoundError:
                listing.skipped["broken links"] += 1
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _wanted(name: PurePosixPath, listing: Listing) -> bool:
    if is_hidden(name):
        listing.skipped["hidden files"] += 1
    elif not IMAGE.search(name.name):
        listing.skipped[f"files {suffix_of(name.name)}"] += 1
    else:
        return True
    return False


def _members(path: Path, listing: Listing) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Those of a tar archive, which is read as a stream: names are labels only, nothing is written under them."""
    try:
        with path.open("rb") as file, decompressed(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isdir() and not is_hidden(name):
                    listing.folders.add(name.parts)
                elif name.is_absolute() or ".." in name.parts:
                    listing.skipped["files with names that lead out of the archive"] += 1
                elif not member.isfile():
                    listing.skipped["links and other special files"] += not member.isdir()
                elif _wanted(name, listing) and (content := archive.extractfile(member)):
                    listing.folders.add(name.parent.parts)
                    yield name.parts, content.read()
            while stream.read(1 << 20):  # to the end, where the checksum is
                pass
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not a complete tar archive ({error})") from error


def decode(content: bytes, size: int | None) -> tuple[np.ndarray, bool]:
    """The pixels of an image file, uint8 [Y, X, 3], and whether it is grey.

    Transparent pixels are laid on white. Of an animation the first picture is taken.

    Args:
        size: side of a square that the image is cropped (at its centre) and scaled to; None: as it is.

    Raises:
        DamagedError: it cannot be decoded, or has more than 8 bits a colour.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            warnings.simplefilter("ignore")
            if opened.mode not in EIGHT_BITS or opened.width * opened.height > MOST_PIXELS:
                raise DamagedError
            grey = opened.mode in ("1", "L", "LA")
            if opened.mode in ("LA", "PA", "RGBA") or "transparency" in opened.info:
                over = opened.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
            else:
                picture = opened.convert("RGB")
    except DamagedError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble on
        raise DamagedError from error
    if size is not None and picture.size != (size, size):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture), grey


def archive_in(folder: Path) -> Path | None:
    """The one archive of a folder that holds nothing else to read; None where there is none."""
    names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    archives = [path for path in names if path.is_file() and ARCHIVE.search(path.name)]
    return archives[0] if len(archives) == 1 and not any(path.is_dir() for path in names) else None
