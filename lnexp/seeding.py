"""All randomness: every random number follows from (seed, what it is for), so that no generator has to be shared."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def fold(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose, such as fold(seed, "order", epoch); purposes do not touch one another."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded for one purpose."""
    return torch.Generator().manual_seed(fold(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python for one purpose."""
    folded = fold(seed, *purpose)
    torch.manual_seed(folded)
    np.random.seed(folded % 2**32)
    random.seed(folded)


@contextmanager
def set_aside(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed the global generators inside the block, and give them back unchanged after it: what runs inside disturbs nothing."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seed_everything(seed, *purpose)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def generator_states() -> dict[str, object]:
    """The states of torch's global generators, for a checkpoint."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_generators(states: dict) -> None:
    """Undo whatever has been drawn since `generator_states`; devices that this machine lacks are left out."""
    torch.set_rng_state(states["cpu"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)
