"""Processes that share the preparation of a data set."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from threading import Thread


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool() -> ProcessPoolExecutor:
    """A process for each core; they end when this process is killed."""
    return ProcessPoolExecutor(cores(), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker: exit when the parent process is killed."""
    parent = os.getppid()  # multiprocessing.parent_process cannot be waited for under joblib

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
