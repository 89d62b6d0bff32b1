"""CNN features of pictures, the input of image-sentence ranking (paper 6.1).

As in the paper, the short side is scaled to 256 pixels and the features of ten views of 224 x 224 (four corners and the centre,
each also mirrored) are averaged.

Shapes: B pictures, V views (1 or 10), H height, W width, D features.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from tqdm import tqdm

from lnexp.data.captions import efficientnet
from lnexp.errors import UserError, unknown
from lnexp.files import prepared, write_whole

SHORT_SIDE, SIDE = 256, 224
VIEWS = ("center", "ten")
Picture = Path | Image.Image


@dataclass(frozen=True)
class Backbone:
    """A trained network and the scale of its input.

    Attributes:
        name: identifies it; an interrupted extraction continues only with the same backbone.
        model: x_B3HW -> features_BD, in evaluation mode.
        mean, std: of red, green and blue, for pixels in [0, 1].
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]


def efficientnet_lite0(data_dir: Path) -> Backbone:
    """The backbone of a published package; features [1280]."""
    return Backbone("efficientnet_lite0", efficientnet.load(data_dir), efficientnet.MEAN, efficientnet.STD)


def extract(
    pictures: Sequence[Picture],
    backbone: Backbone,
    out: Path,
    views: str = "center",
    device: str = "cpu",
    batch_size: int = 16,
    title: str = "features",
) -> np.ndarray:
    """Write the features of `pictures` to the file `out` and return them, float16 [pictures, D], memory-mapped.

    Unfinished rows are stored in a folder beside `out`, named after pictures, backbone and views. After an interruption the same
    call continues.

    Args:
        pictures: files, or decoded pictures; one row each, in this order.
        views: center | ten.
        device: where the network runs.
        batch_size: pictures at a time (ten views each with views="ten").
        title: of the progress bar.

    Raises:
        UserError: `out` exists, a file is missing or is no picture, views is unknown, or batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: must be 1 or more")
    if views not in VIEWS:
        raise unknown("views", views, VIEWS)
    if out.exists():
        raise UserError(f"{out} exists: not overwritten; give another name or remove it")
    digest = _digest(pictures, backbone, views)
    folder = out.with_name(f"{out.name}.{digest}")

    def make(folder: Path) -> None:
        _extract(pictures, backbone, views, device, batch_size, title, folder)

    out.parent.mkdir(parents=True, exist_ok=True)
    prepared(folder, make, ["features.npy"], resume=True)
    os.replace(folder / "features.npy", out)
    shutil.rmtree(folder)
    return np.load(out, mmap_mode="r")


def _extract(
    pictures: Sequence[Picture], backbone: Backbone, views: str, device: str, batch_size: int, title: str, folder: Path
) -> None:
    """Write features.npy, and the number of rows done to the file "done" after each batch; continue after that many rows."""
    rows, record = folder / "features.npy", folder / "done"
    model = backbone.model.to(device)
    with torch.inference_mode():
        width = model(torch.zeros(1, 3, SIDE, SIDE, device=device)).shape[1]
        done = int(record.read_text()) if record.exists() and rows.exists() else 0
        features_ND = np.lib.format.open_memmap(
            rows, mode="r+" if done else "w+", dtype=np.float16, shape=None if done else (len(pictures), width)
        )
        with tqdm(total=len(pictures), initial=done, desc=title, unit="picture", dynamic_ncols=True, disable=None) as bar:
            while done < len(pictures):
                batch = pictures[done : done + batch_size]
                x_BV3HW = torch.stack([_views(_decoded(p), views, backbone) for p in batch]).to(device)
                features_BVD = model(x_BV3HW.flatten(0, 1)).unflatten(0, x_BV3HW.shape[:2])
                features_ND[done : done + len(batch)] = features_BVD.mean(dim=1).cpu().numpy()
                features_ND.flush()
                done += len(batch)
                write_whole(record, str(done).encode())  # after the rows that it counts
                bar.update(len(batch))
    record.unlink(missing_ok=True)


def _digest(pictures: Sequence[Picture], backbone: Backbone, views: str) -> str:
    """Identifies an extraction, so that another one does not continue it. Missing files are reported here, before the work.

    Files are identified by their paths: after a damaged one is replaced, the extraction continues.
    """
    digest = hashlib.sha256(repr((backbone.name, views, len(pictures))).encode())
    for picture in pictures:
        if isinstance(picture, Path):
            if not picture.is_file():
                raise UserError(f"{picture}: there is no such file")
            digest.update(repr(str(picture.resolve())).encode())
        else:
            digest.update(repr((picture.mode, picture.size)).encode() + picture.tobytes())
    return digest.hexdigest()[:12]


def _decoded(picture: Picture) -> Image.Image:
    """The picture upright and in RGB. Raises a UserError if it cannot be read."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    try:
        with Image.open(picture) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise UserError(f"{picture}: cannot be read as a picture ({error})") from error


def _views(picture: Image.Image, views: str, backbone: Backbone) -> Tensor:
    """The views of one picture, x_V3HW, in the scale of the backbone."""
    scale = SHORT_SIDE / min(picture.size)
    width, height = (max(SHORT_SIDE, round(side * scale)) for side in picture.size)
    pixels_HW3 = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    x_3HW = torch.from_numpy(pixels_HW3.copy()).permute(2, 0, 1).float() / 255
    x_3HW = (x_3HW - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    right, bottom = width - SIDE, height - SIDE
    corners = [(bottom // 2, right // 2)]
    if views == "ten":
        corners += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    crops = [x_3HW[:, top : top + SIDE, left : left + SIDE] for top, left in corners]
    if views == "ten":
        crops += [crop.flip(2) for crop in crops]
    return torch.stack(crops)
