"""Large buffers that are used again instead of being given back to the system after every pass.

A fresh buffer costs a page fault for every 4 KiB, which is as dear as the arithmetic of a long sequence. A buffer
returns to the pool when the last tensor that looks at it is gone, so nothing can be overwritten that somebody may
still read.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

SMALLEST = 1 << 20  # bytes; below, the system's allocator does not fault
MOST_IDLE = 1 << 29  # bytes kept for later
HUGE_PAGE = 1 << 21


class Workspace:
    """A pool of memory. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[mmap.mmap] = []  # the most recently used last
        self._lock = threading.RLock()  # re-entrant: a collection of garbage may give a buffer back at any point

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A dense tensor of undefined values."""
        size = prod(shape) * dtype.itemsize
        if size < SMALLEST:
            return torch.empty(shape, dtype=dtype, device="cpu")
        memory = self._take(size)
        lease = (ctypes.c_char * len(memory)).from_buffer(memory)
        weakref.finalize(lease, self._give_back, memory).atexit = False
        return torch.frombuffer(lease, dtype=dtype, count=prod(shape)).view(shape)

    def idle_bytes(self) -> int:
        """How much memory waits to be used again."""
        return sum(len(memory) for memory in self._idle)

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            fitting = [memory for memory in self._idle if size <= len(memory) <= 2 * size]
            if fitting:
                best = min(fitting, key=len)
                self._idle = [memory for memory in self._idle if memory is not best]
                return best
        size = -(-size // HUGE_PAGE) * HUGE_PAGE
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory

    def _give_back(self, memory: mmap.mmap) -> None:
        with self._lock:
            self._idle.append(memory)
            while self.idle_bytes() > MOST_IDLE:
                self._idle.pop(0)
