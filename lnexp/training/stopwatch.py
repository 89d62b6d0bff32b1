"""Time of training alone, by the wall's clock and by the processor's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch


class Times(NamedTuple):
    """Seconds of training since the first update, without evaluations and checkpoints.

    Attributes:
        wall: elapsed time.
        processor: time of this process on all cores; not affected by what else the machine does.
    """

    wall: float = 0.0
    processor: float = 0.0


class Stopwatch:
    """Sums up the time between `start` and `stop`.

    Args:
        device: torch device whose pending work is awaited before the clocks are read.
    """

    def __init__(self, device: str) -> None:
        self.device, self.times = device, Times()

    def restore(self, times: Sequence[float]) -> None:
        """Continue from the times of a checkpoint."""
        self.times = Times(*times)

    def start(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        wall, processor = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self.times = Times(self.times.wall + wall, self.times.processor + processor)
