"""A run that is killed at any moment and started again ends with the same bytes as one that was not."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.processes import Started, train

LONG = ["max_updates=600", "epochs=null", "eval_every=50", "log_every=7", "checkpoint_every=20", "batch_size=16"]


def rows(folder: Path) -> list[list[str]]:
    """metrics.csv without its times, the third and fourth column."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    return [line.split(",")[:2] + line.split(",")[4:] for line in lines]


def the_run(results: Path) -> Path:
    (folder,) = (results / "runs" / "mnist").iterdir()
    return folder


def same(a: Path, b: Path) -> None:
    assert rows(a) == rows(b)
    one, other = (torch.load(f / "ckpt.pt", weights_only=True) for f in (a, b))
    assert one["step"] == other["step"]
    for key, value in one["model"].items():
        assert torch.equal(value, other["model"][key]), key


@pytest.fixture(scope="module")
def uninterrupted(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run of each norm that nothing has disturbed."""
    folders = {}
    for norm in ("ln", "bn"):
        results = tmp_path_factory.mktemp(norm)
        done = train(
            "task=mnist", "scale=smoke", "data=idx", f"data.root={digits}", f"results_dir={results}", f"norm={norm}", *LONG
        )
        assert done.returncode == 0, done.stderr
        folders[norm] = the_run(results)
    return folders


@pytest.mark.parametrize(("norm", "seed"), [("ln", 0), ("ln", 1), ("bn", 2)])
def test_killed_runs_end_with_the_same_bytes(norm: str, seed: int, smoke: list[str], tmp_path: Path, uninterrupted: dict) -> None:
    """kill -9 at random moments, several times each, until the run ends; some fall into writing a checkpoint."""
    moment, kills = random.Random(seed), 0
    while True:
        metrics = list((tmp_path / "results" / "runs" / "mnist").glob("*/metrics.csv"))
        before = metrics[0].stat().st_size if metrics else 0
        started = Started("train.py", *smoke, f"norm={norm}", *LONG)
        while kills < 6 and started.running():  # wait until it has begun to write, then a random moment more
            metrics = list((tmp_path / "results" / "runs" / "mnist").glob("*/metrics.csv"))
            if metrics and metrics[0].stat().st_size != before:
                time.sleep(moment.uniform(0, 0.3))
                started.kill()
                kills += 1
                break
            time.sleep(0.005)
        code = started.wait(300)
        if code == 0:
            break
        assert code == -signal.SIGKILL, started.said()
    assert kills >= 2
    same(the_run(tmp_path / "results"), uninterrupted[norm])


@pytest.mark.parametrize("damage", ["truncated", "flipped", "absent", "both"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, smoke: list[str], tmp_path: Path, uninterrupted: dict
) -> None:
    short = [o if not o.startswith("max_updates") else "max_updates=300" for o in LONG]
    assert train(*smoke, "norm=ln", *short).returncode == 0
    folder = the_run(tmp_path / "results")
    (folder / "summary.json").unlink()  # as if killed just before the end
    latest = folder / "ckpt.pt"
    content = latest.read_bytes()
    if damage == "truncated":
        latest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        latest.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "absent":
        latest.unlink()
    else:
        latest.write_bytes(b"")
        (folder / "ckpt.prev.pt").write_bytes(content[:1000])
    before = rows(folder)
    done = train(*smoke, "norm=ln", *short)
    assert done.returncode == 0, done.stderr
    assert rows(folder) == before
    told = [line for line in done.stderr.splitlines() if "is damaged" in line]
    assert len(told) == {"truncated": 1, "flipped": 1, "absent": 0, "both": 2}[damage]


def test_a_finished_run_returns_at_once_and_writes_nothing(smoke: list[str], tmp_path: Path) -> None:
    assert train(*smoke).returncode == 0
    folder = the_run(tmp_path / "results")
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    again = train(*smoke)
    assert again.returncode == 0
    assert "is finished already" in again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_checkpoints_do_not_change_the_numbers(smoke: list[str], tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    for results, every in ((one, "null"), (other, "3")):
        assert train(*smoke, f"results_dir={results}", f"checkpoint_every={every}").returncode == 0
    same(the_run(one), the_run(other))
