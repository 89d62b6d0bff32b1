"""Lines that a program draws: the World English Bible in three single-stroke faces of Hershey's fonts, as an embedded stand-in.

No hand has written them. Each line has a face, slant, size, pace and wave of its own, and each point a jitter: points at equal
distances would lie on a ring of offsets, where a density grows without bound.
"""

from __future__ import annotations

import ast
import base64
import io
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnexp.data.prose.documents import BIBLE, bible
from lnexp.data.sources import Wheel
from lnexp.data.strokes.lines import Line, offsets
from lnexp.seeding import fold

FONTS = Wheel(
    package="hershey-fonts",
    version="2.1.0",
    sha256="e53ef56bdef231f10f0576a6570f49fcc8442e45115028bc52a7ade15d824581",
    holds="Hershey's vector fonts, 30 kB",
    licence="MIT; the fonts are in the public domain",
)
MODULE = "HersheyFonts/HersheyFonts.py"
WHEELS = [FONTS, BIBLE]
FACES = ("futural", "cursive", "scripts")
UNITS = 20  # of a coordinate, to one of the fonts
CHARACTERS = (12, 30)  # of a line, before its last word is complete
SHARES = {"valid": 10, "test": 10}  # one chapter in so many; the others are training text


class Glyph(NamedTuple):
    """A character: its width, and its strokes [n, 2] from its left edge on, y downwards."""

    width: float
    strokes: list[np.ndarray]


def lines(count: int, data_dir: Path) -> tuple[list[Line], Counter[str]]:
    """`count` lines. Training, validation and test lines take their text from different chapters. Nothing is left out."""
    faces = list(_faces(FONTS.read(MODULE, data_dir).decode()).values())
    words: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number, (_, text) in enumerate(bible(data_dir)):
        split = {0: "valid", 1: "test"}.get(fold(0, "hershey", number) % 10, "train")
        words[split] += re.findall(r"[A-Za-z',.]+", text)
    drawn = []
    for number in range(count):
        random = np.random.default_rng(fold(0, "hershey line", number))
        split = str(random.choice(["train", "valid", "test"], p=(0.7, 0.1, 0.2)))
        text = _text(words[split], random)
        drawn.append(Line(f"{split}-{number:05}", split, offsets(write(text, faces[random.integers(len(faces))], random)), text))
    return drawn, Counter()


def _text(words: list[str], random: np.random.Generator) -> str:
    start, least, text = int(random.integers(len(words) - CHARACTERS[1])), int(random.integers(*CHARACTERS)), ""
    while len(text) < least:
        text += " " * bool(text) + words[start]
        start += 1
    return text


def write(text: str, face: dict[str, Glyph], random: np.random.Generator) -> list[np.ndarray]:
    """The strokes of a text, int [n, 2] each, in one random hand."""
    slant, size = random.normal(0.1, 0.2), random.uniform(0.8, 1.25)
    pace, wave, phase = random.uniform(3.2, 4.6), random.uniform(0, 1.5), random.uniform(0, 6)
    strokes, x = [], 0.0
    for character in text:
        for stroke in face[character].strokes:
            along = resample((stroke + np.array([x, 0])) @ (np.array([[1, 0], [-slant, 1]]) * size), pace)
            along[:, 1] += wave * np.sin(along[:, 0] / 60 + phase)
            jitter = random.normal(0, 0.5, 2) + random.normal(0, 0.15, along.shape)
            strokes.append((UNITS * (along + jitter)).round().astype(int))
        x += face[character].width
    return strokes


def resample(line: np.ndarray, spacing: float) -> np.ndarray:
    """Points at equal distances of about `spacing` along a polyline [n, 2], both ends included."""
    length = np.concatenate([[0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
    at = np.linspace(0, length[-1], max(2, round(length[-1] / spacing) + 1))
    return np.column_stack([np.interp(at, length, line[:, 0]), np.interp(at, length, line[:, 1])])


def _faces(module: str) -> dict[str, dict[str, Glyph]]:
    """Name -> glyphs, from the source of the package's module, which holds a tar archive as a constant."""
    constants = (node.value for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Constant))
    packed = max((value for value in constants if isinstance(value, bytes)), key=len)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
        found = {}
        for name in FACES:
            file = archive.extractfile(name)
            assert file is not None, name
            rows = [row for row in file.read().decode().splitlines() if row and not row.startswith("#")]
            found[name] = {chr(32 + k): _glyph(row) for k, row in enumerate(rows)}
    return found


def _glyph(row: str) -> Glyph:
    """From Hershey's format: number (5 characters), count (3), then pairs around the letter R: edges, points, " R" for pen up."""
    pairs = [row[k : k + 2] for k in range(8, len(row), 2)]
    left, right = (ord(edge) - ord("R") for edge in pairs[0])
    strokes: list[list[tuple[int, int]]] = [[]]
    for pair in pairs[1:]:
        if pair == " R":
            strokes.append([])
        else:
            strokes[-1].append((ord(pair[0]) - ord("R") - left, ord(pair[1]) - ord("R")))
    return Glyph(right - left, [np.array(stroke, float) for stroke in strokes if len(stroke) > 1])
