"""Pictures of handwriting: ink as PNG and SVG, and the window's place on the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lnexp.data.strokes.alphabet import decode
from lnexp.tasks.handwriting.write import Written

GREY, BLACK = "#9a9a9a", "#000000"


def strokes(offsets: np.ndarray) -> list[np.ndarray]:
    """The strokes [n, 2] of offsets [T, 3] from the origin on, y downwards."""
    at = np.concatenate([np.zeros((1, 2)), np.cumsum(offsets[:, :2], axis=0)])
    lifted = np.concatenate([[1], offsets[:, 2]]) > 0.5  # the pen is up before the first point
    return [stroke for stroke in np.split(at, np.flatnonzero(lifted) + 1) if len(stroke)]


def ink(sample: Written, mean_2: np.ndarray, std_2: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The strokes of the prime, and those of the sample, in the units of the data."""
    moves = sample.offsets.astype(float)
    moves[:, :2] = moves[:, :2] * std_2 + mean_2
    prime = strokes(moves[: sample.primed]) if sample.primed else []
    start = moves[: sample.primed, :2].sum(0)
    return prime, [stroke + start for stroke in strokes(moves[sample.primed :])]


def svg(rows: Sequence[tuple[list[np.ndarray], list[np.ndarray]]]) -> str:
    """The ink of several samples, below one another, as an SVG document; primes are grey."""
    body, top, width = [], 0.0, 0.0
    for prime, own in rows:
        at = np.concatenate([*prime, *own])
        low, high = at.min(0), at.max(0)
        thickness = max(high[1] - low[1], 1.0) / 60
        for colour, part in ((GREY, prime), (BLACK, own)):
            paths = " ".join("M" + " L".join(f"{x - low[0]:.1f},{y - low[1] + top:.1f}" for x, y in stroke) for stroke in part)
            body.append(f'<path d="{paths}" stroke="{colour}" stroke-width="{thickness:.1f}"/>' if paths else "")
        top += (high[1] - low[1]) * 1.25 + 1
        width = max(width, high[0] - low[0])
    margin = width / 100 + 1
    box = f"{-margin:.1f} {-margin:.1f} {width + 2 * margin:.1f} {top + 2 * margin:.1f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" fill="none" stroke-linecap="round" stroke-linejoin="round">'
    return "\n".join([head, *filter(None, body), "</svg>\n"])


def sheet(rows: Sequence[tuple[list[np.ndarray], list[np.ndarray]]], titles: Sequence[str]) -> Figure:
    """The ink of several samples, below one another, each with a title; primes are grey."""
    figure = Figure(figsize=(9, 1.35 * len(rows) + 0.2), dpi=130, layout="constrained")
    for ax, (prime, own), title in zip(np.ravel(figure.subplots(len(rows), 1)), rows, titles, strict=True):
        for colour, part in ((GREY, prime), (BLACK, own)):
            for stroke in part:
                ax.plot(stroke[:, 0], -stroke[:, 1], color=colour, linewidth=0.9)
        ax.set_title(title, fontsize=7, loc="left")
        ax.set_aspect("equal", adjustable="datalim")
        ax.axis("off")
    return figure


def alignment(sample: Written) -> Figure:
    """The weight of each place of the text (downwards) at each step; the last row is the place after its end."""
    letters = [*decode(sample.text), "end"]
    figure = Figure(figsize=(9, 0.14 * len(letters) + 1), dpi=130, layout="constrained")
    ax = figure.subplots()
    top = np.percentile(sample.phi_TU, 99.5) if sample.phi_TU.size else 1
    ax.imshow(sample.phi_TU.T, aspect="auto", cmap="gray_r", vmin=0, vmax=max(top, 1e-9), interpolation="nearest")
    if sample.primed:
        ax.axvline(sample.primed - 0.5, color="#0072b2", linewidth=0.8)
    ax.set_yticks(range(len(letters)), letters, fontsize=6)
    ax.set_xlabel("step" + "; the sample begins at the line" * bool(sample.primed))
    return figure
