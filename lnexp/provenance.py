"""Which code and which machine made a number."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from lnexp import paths


def commit() -> dict[str, Any]:
    """The commit of this checkout and whether code or configuration differ from it; None where git or its history is absent."""
    code = ["--", "lnexp", "configs", "train.py"]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", *code)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def processor() -> str:
    """The processor's name as its maker gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
