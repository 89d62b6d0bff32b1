"""torchrun: LN gives what one process gives, to rounding; BN, whose statistics are local, only if they are synchronised.

Local statistics are those of parts of a batch in one process.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.processes import PYTHON, train

TORCHRUN = (*PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.mark.parametrize(
    ("norm", "one", "two", "equal"),
    [
        ("ln", "", "", True),
        ("none", "", "", True),
        ("bn", "", "", False),
        ("bn", "", "norm.synchronised=true", True),
        ("bn", "local_batches=2", "", True),
        ("bn", "local_batches=2 batch_size=8 norm.statistics=running", "batch_size=8 norm.statistics=running", True),
    ],
)
def test_two_processes_against_one(norm: str, one: str, two: str, equal: bool, smoke: list[str], tmp_path: Path) -> None:
    weights, losses = [], []
    for place, launcher, more in (("one", PYTHON, one), ("two", TORCHRUN, two)):
        given = [o for o in smoke if not o.startswith("results_dir")] + [f"results_dir={tmp_path}/{place}"]
        given += [f"norm={norm}", *(["batch_size=16"] if "batch_size" not in more else []), *more.split()]
        done = train(*given, "max_updates=20", "device=cpu", launcher=launcher, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / place / "runs" / "mnist").iterdir()  # one folder, under one name
        weights.append(torch.load(folder / "ckpt.pt", weights_only=True)["model"])
        losses.append([line.split(",")[-1] for line in (folder / "metrics.csv").read_text().splitlines() if ",loss," in line])
    moved = max(
        (weights[0][name].float() - weights[1][name].float()).abs().max().item() for name in weights[0] if "weight" in name
    )
    assert (moved < 1e-4) == equal, moved
    if equal:
        buffers = [name for name in weights[0] if "running" in name]
        assert len(buffers) == (6 if norm == "bn" else 0)
        for name in buffers:
            torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4)
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
