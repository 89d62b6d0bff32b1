"""Ctrl-C and SIGTERM: a run saves a checkpoint after the current update and stops."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP = "LNEXP_STOP"  # environment variable: path of the file whose presence stops all runs of a grid


def stop_requested() -> bool:
    """Whether the process that launched this one has asked all runs to stop."""
    return os.path.exists(os.environ.get(STOP) or "")


class Interrupt:
    """Context in which the first SIGINT or SIGTERM sets `requested`; a second one raises KeyboardInterrupt at once.

    `requested` is also set by the `StopFile` of the process that launched this one. Outside the main thread, where Python allows
    no signal handlers, only that counts.
    """

    def __init__(self) -> None:
        self.signalled = False

    @property
    def requested(self) -> bool:
        return self.signalled or stop_requested()

    def __enter__(self) -> Interrupt:
        self.previous = handle(self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:
            raise KeyboardInterrupt
        self.signalled = True
        print("Stopping after this update; once more to stop without a checkpoint.", file=sys.stderr)


class StopFile:
    """Context for a process that launches others: the first SIGINT or SIGTERM makes all their runs save a checkpoint and stop.

    The signal reaches them as a file, so that it does not matter how, or on which machine of a shared disk, they were launched.
    A second signal raises KeyboardInterrupt at once.

    Raises:
        KeyboardInterrupt: at the end of the block, if a signal has come.
    """

    def __enter__(self) -> StopFile:
        self.path = Path(tempfile.mkdtemp(prefix="lnexp-")) / "stop"
        os.environ[STOP] = str(self.path)
        self.previous = handle(self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        stopped = self.path.exists()
        self.path.unlink(missing_ok=True)
        self.path.parent.rmdir()
        del os.environ[STOP]
        if stopped:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.path.exists():
            raise KeyboardInterrupt
        self.path.touch()
        print("Stopping all runs after their current update; once more to stop without checkpoints.", file=sys.stderr)


def handle(handler: Any) -> dict[int, Any]:
    """Install a handler for SIGINT and SIGTERM; returns the previous ones, none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}
