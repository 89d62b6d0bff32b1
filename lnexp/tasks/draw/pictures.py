"""Pictures of DRAW at work: canvases after each glimpse, with the windows, as sheets and as animations; the KL of each glimpse.

Shapes: T glimpses, N images shown, S side of an image, D = S * S pixels, A numbers of the attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import torch
from torch import Tensor

from lnexp.nn.ops.draw.interface import Windows
from lnexp.nn.ops.draw.reference import Glimpse, generated, glimpses
from lnexp.tasks.draw.model import DrawNet

SHOWN = 16  # images of each kind
SCALE, FRAME_SCALE = 2, 4  # screen pixels of an image's pixel: on sheets, in animations
MILLISECONDS, PAUSE = 150, 1500  # of a frame, of the last one
READ, WRITE, GAP = (0, 158, 115), (213, 94, 0), 2  # colours of the windows; white pixels between images


def write_pictures(model: DrawNet, test_ND: Tensor, folder: Path) -> None:
    """Write into `folder`, for `SHOWN` test images, evenly spaced, and for as many images from the prior:

    reconstructions.png and generated.png: a row for each image: the image itself, the canvas after each glimpse, with the window
    written; reconstructions.gif and generated.gif: the same as animations, with the window read as well; kl.png: the KL of each
    glimpse of each of the test images, in nats.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown_N = torch.linspace(0, len(test_ND) - 1, min(SHOWN, len(test_ND))).round().long().to(test_ND.device)
    x_ND = test_ND[shown_N].to(model.attention.bias.dtype)
    inputs = model.inputs(x_ND, model.noise(len(x_ND)))
    seen = list(glimpses(inputs)[2])
    drawn = list(generated(model.inputs(x_ND.new_zeros(SHOWN, x_ND.shape[1]), model.noise(SHOWN))))
    for name, steps, first, reads in (("reconstructions", seen, x_ND, True), ("generated", drawn, None, False)):
        sheet(model.windows, steps, first).save(folder / f"{name}.png")
        frames = [frame(model.windows, step, reads) for step in steps]
        times = [MILLISECONDS] * (len(frames) - 1) + [PAUSE]
        frames[0].save(folder / f"{name}.gif", save_all=True, append_images=frames[1:], duration=times, loop=0)
    posterior_TNP = torch.stack([step.posterior_BP for step in seen])
    save_kl(model.parts(x_ND, seen[-1].canvas_BD, posterior_TNP).kl_TB.cpu().numpy(), folder / "kl.png")


def sheet(windows: Windows, steps: Sequence[Glimpse], first_ND: Tensor | None) -> PIL.Image.Image:
    """A row for each image: the image, if there is one, then the canvas after each glimpse with the window written."""
    columns = [] if first_ND is None else [[shade(pixels, windows.side, SCALE) for pixels in first_ND]]
    for step in steps:
        column = [shade(canvas_D.sigmoid(), windows.side, SCALE) for canvas_D in step.canvas_BD]
        for image, numbers_A in zip(column, step.written_BA, strict=True):
            outline(image, numbers_A[windows.write_filter], windows.write, windows.side, WRITE)
        columns.append(column)
    return mosaic([list(row) for row in zip(*columns, strict=True)])


def frame(windows: Windows, step: Glimpse, reads: bool) -> PIL.Image.Image:
    """All canvases after one glimpse in a square, with the windows."""
    images = [shade(canvas_D.sigmoid(), windows.side, FRAME_SCALE) for canvas_D in step.canvas_BD]
    for image, read_A, written_A in zip(images, step.attention_BA, step.written_BA, strict=True):
        outline(image, written_A[windows.write_filter], windows.write, windows.side, WRITE)
        if reads:
            outline(image, read_A[windows.read_filter], windows.read, windows.side, READ)
    across = int(np.ceil(len(images) ** 0.5))
    return mosaic([images[k : k + across] for k in range(0, len(images), across)])


def shade(pixels_D: Tensor, side: int, scale: int) -> PIL.Image.Image:
    """Ink on white: 0 is white, 1 is black."""
    ink = (255 * (1 - pixels_D.reshape(side, side))).round().byte().cpu().numpy()
    return PIL.Image.fromarray(ink).convert("RGB").resize((side * scale, side * scale), PIL.Image.Resampling.NEAREST)


def outline(image: PIL.Image.Image, numbers: Tensor, n: int, side: int, colour: tuple[int, int, int]) -> None:
    """Draw a window: a rectangle through the centres of its outer filters, one standard deviation further out.

    A filter at i is over the middle of pixel i.
    """
    y, x, log_delta, log_sigma2, _ = numbers.double().clamp(-20, 20).tolist()
    half = np.exp(log_delta) * (side - 1) / 2 + np.exp(log_sigma2 / 2)
    scale, last = image.width / side, image.width - 1
    centre = [(v + 1) / 2 * side for v in (x, y)]
    low, high = ([float(np.clip((v + sign * half + 0.5) * scale, 0, last)) for v in centre] for sign in (-1, 1))
    PIL.ImageDraw.Draw(image).rectangle((*low, *high), outline=colour)


def mosaic(rows: Sequence[Sequence[PIL.Image.Image]]) -> PIL.Image.Image:
    """Images of equal size in rows; the last row may be shorter."""
    step = rows[0][0].width + GAP
    whole = PIL.Image.new("RGB", (step * max(map(len, rows)) + GAP, step * len(rows) + GAP), "white")
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            whole.paste(image, (c * step + GAP, r * step + GAP))
    return whole


def save_kl(kl_TN: np.ndarray, path: Path) -> None:
    """A map of the KL of each glimpse of each image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, 0.12 * len(kl_TN) + 2), 3.4), dpi=130, layout="constrained")
    ax = figure.add_subplot()
    picture = ax.imshow(kl_TN.T, aspect="auto", cmap="viridis", extent=(0.5, len(kl_TN) + 0.5, kl_TN.shape[1] + 0.5, 0.5))
    ax.set(xlabel="glimpse", ylabel="test image", title="KL of each glimpse")
    figure.colorbar(picture, label="nats")
    figure.savefig(path, metadata={"Software": None})
