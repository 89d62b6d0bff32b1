"""torchrun: LN gives what one process gives, to rounding; BN, whose statistics are local, does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.processes import PYTHON, train

TORCHRUN = (*PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.mark.parametrize(("norm", "equal"), [("ln", True), ("none", True), ("bn", False)])
def test_two_processes_against_one(norm: str, equal: bool, smoke: list[str], tmp_path: Path) -> None:
    weights, losses = [], []
    for place, launcher in (("one", PYTHON), ("two", TORCHRUN)):
        given = [o for o in smoke if not o.startswith("results_dir")] + [f"results_dir={tmp_path}/{place}"]
        done = train(
            *given, f"norm={norm}", "batch_size=16", "max_updates=20", "device=cpu", launcher=launcher, OMP_NUM_THREADS="1"
        )
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / place / "runs" / "mnist").iterdir()  # one folder, under one name
        weights.append(torch.load(folder / "ckpt.pt", weights_only=True)["model"])
        losses.append([line.split(",")[-1] for line in (folder / "metrics.csv").read_text().splitlines() if ",loss," in line])
    moved = max(
        (weights[0][name].float() - weights[1][name].float()).abs().max().item() for name in weights[0] if "weight" in name
    )
    assert (moved < 1e-4) == equal, moved
    assert len(losses[0]) == len(losses[1])


def test_a_broken_off_team_goes_on(smoke: list[str], tmp_path: Path) -> None:
    given = [*smoke, "norm=ln", "batch_size=16", "device=cpu"]
    assert train(*given, launcher=TORCHRUN).returncode == 0
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    before = [line.split(",")[:2] + line.split(",")[4:] for line in (folder / "metrics.csv").read_text().splitlines()]
    (folder / "summary.json").unlink()
    (folder / "ckpt.pt").unlink()  # back to the checkpoint before the last
    assert train(*given, launcher=TORCHRUN).returncode == 0
    after = [line.split(",")[:2] + line.split(",")[4:] for line in (folder / "metrics.csv").read_text().splitlines()]
    assert after == before


def test_a_batch_that_cannot_be_shared_is_refused(smoke: list[str]) -> None:
    done = train(*smoke, "batch_size=15", launcher=TORCHRUN)
    assert done.returncode != 0
    assert "batch_size=15: must be a multiple of the 2 processes" in done.stderr
