"""Checkpoints that survive anything: written beside the last one and renamed, checked when read."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from lnexp.files import write_whole

LATEST, BEFORE, BEST = "ckpt.pt", "ckpt.prev.pt", "best.pt"


def packed(state: dict[str, Any]) -> bytes:
    """A state as torch.save writes it. (Writing to a file, torch.save cannot tell a full disk from a broken one.)"""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` the latest checkpoint of a folder, keeping the one before it."""
    content = packed(state)
    if (folder / LATEST).exists():
        os.replace(folder / LATEST, folder / BEFORE)
    write_whole(folder / LATEST, content)


def load(path: Path) -> dict[str, Any] | None:
    """A checkpoint's state, or None where the file is absent, truncated or damaged.

    Every byte is checked against the archive's own checksums, since a flipped bit in a weight would go unnoticed otherwise.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, KeyError, NotImplementedError, OSError):
        return None
