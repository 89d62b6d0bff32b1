"""Checkpoints: written whole, the one before retained, checksums verified when read."""

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
    """The bytes that torch.save writes. (Given a path, torch.save reports a full disk as an error of its own.)"""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` the latest checkpoint of a folder; the one before it is renamed."""
    content = packed(state)
    if (folder / LATEST).exists():
        os.replace(folder / LATEST, folder / BEFORE)
    write_whole(folder / LATEST, content)


def load(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint, or None if the file is absent, truncated or damaged.

    All bytes are verified against the checksums of the archive: otherwise a flipped bit in a weight would go unnoticed.
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
