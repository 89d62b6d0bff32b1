"""What the tests share: a small set of digits in MNIST's own format, and the real command."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lnexp import paths
from lnexp.data.mnist import IDX_FILES

SHARED = paths.ROOT.parent / "shared" / "data"  # real data sets, beside the checkout where they are at hand


@pytest.fixture(autouse=True)
def one_thread_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run side by side, each on one core, and nothing leaves the machine."""
    torch.set_num_threads(1)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def write_idx(path: Path, array: np.ndarray) -> None:
    """An IDX file of unsigned bytes, gzipped as MNIST is distributed."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MNIST's format: 1,200 + 200 pictures of ten noisy blobs that a small net learns in seconds."""
    folder = tmp_path_factory.mktemp("digits")
    random = np.random.default_rng(0)
    shapes = random.integers(0, 256, (10, 28, 28))
    for name, n in (("train", 1200), ("t10k", 200)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        noise = random.integers(0, 256, (n, 28, 28))
        images = np.where(random.random((n, 28, 28)) < 0.3, shapes[labels], noise).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    assert all((folder / f"{name}.gz").exists() for name in IDX_FILES)
    return folder


@pytest.fixture
def smoke(digits: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run that takes a second, writes into a folder of the test's own, and needs no network."""
    return [
        "task=mnist",
        "scale=smoke",
        "data=idx",
        f"data.root={digits}",
        f"results_dir={tmp_path}/results",
        f"data_dir={tmp_path}",
    ]


def environ(**changed: str | None) -> dict[str, str]:
    """The environment with some variables changed, those that are None left out."""
    return {k: v for k, v in {**os.environ, **changed}.items() if v is not None}


def train(*overrides: str, launcher: tuple[str, ...] = (sys.executable,), **changed: str | None) -> subprocess.CompletedProcess:
    """The real command, as a user gives it, in a changed environment."""
    command = [*launcher, str(paths.ROOT / "train.py"), *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=environ(**changed), cwd=paths.ROOT, timeout=300)
