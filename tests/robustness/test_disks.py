"""Full disks, read-only folders, unusable W&B folders, clocks that jump: one line, nothing lost, the same command goes on."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnexp import config
from lnexp.training.run import run
from lnexp.training.runlog import read_rows
from tests.processes import train

LENGTH = ["max_updates=40", "epochs=null", "eval_every=10", "checkpoint_every=4", "norm=ln", "wandb.mode=disabled"]
SIZES = [16, 64, 128, 200, 300, 400, 500, 600, 800]  # KiB; the whole run needs about one MiB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory of its own size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "lnexp", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a file system needs more rights")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def rows(results: Path) -> list[tuple[str, ...]]:
    """The metrics of the one run in a folder, without times."""
    (folder,) = (results / "runs" / "mnist").iterdir()
    return [(r["step"], r["split"], r["metric"], r["value"]) for r in read_rows(folder)]


@pytest.mark.parametrize("sizes", [SIZES[1::4], pytest.param(range(16, 1000, 16), marks=pytest.mark.slow)])
def test_a_disk_that_is_full_at_each_write(sizes: list[int], smoke: list[str], small_disk: Path, tmp_path: Path) -> None:
    """The disk grows by a little before each start, so that each start dies at a later write."""
    full = 0
    for size in sizes:
        remount(small_disk, f"size={size}k")
        done = train(*smoke, *LENGTH, f"results_dir={small_disk}")
        if done.returncode == 0:
            break
        full += 1
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(said), "make room" in done.stderr) == (2, 1, True), done.stderr
        assert not list(small_disk.glob("runs/mnist/*/summary.json"))
    assert full
    remount(small_disk, "size=10m")
    assert train(*smoke, *LENGTH, f"results_dir={small_disk}").returncode == 0
    assert train(*smoke, *LENGTH, f"results_dir={tmp_path}/whole").returncode == 0
    assert rows(small_disk) == rows(tmp_path / "whole")


def test_folders_that_cannot_be_written(smoke: list[str], small_disk: Path, tmp_path: Path) -> None:
    """Results: one line. Data that are prepared already: no matter. W&B's folder: a line, and the run is made."""
    remount(small_disk, "ro,size=10m")
    done = train(*smoke, *LENGTH, f"results_dir={small_disk}/results")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot write {small_disk}/results" in done.stderr
    done = train(*smoke, *LENGTH[:-1], f"data_dir={small_disk}", WANDB_DIR=f"{small_disk}/wandb", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert "Weights & Biases failed" in done.stderr
    assert rows(tmp_path / "results")


def test_clocks_that_jump(smoke: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By up to a year, in both directions, at every reading: other times, the same numbers."""
    run(config.compose([*smoke, *LENGTH, f"results_dir={tmp_path}/steady"]))
    dice = random.Random(0)
    for name in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, name, lambda: dice.uniform(0, 3e7))
    run(config.compose([*smoke, *LENGTH, f"results_dir={tmp_path}/jumping"]))
    assert rows(tmp_path / "jumping") == rows(tmp_path / "steady")
