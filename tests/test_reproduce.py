"""make reproduce in a fresh copy of the project: through runs, tables, figures, claims and report."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lnexp import paths
from tests.processes import environ

LEFT = shutil.ignore_patterns(".git*", ".venv", "data", "runs", "smoke", "wandb", "__pycache__", "*cache", ".hypothesis", "build")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A copy in a folder with an awkward name, with this environment and these prepared data."""
    prepared = paths.ROOT / "data"
    if shutil.which("make") is None or sys.prefix == sys.base_prefix:
        pytest.skip("needs make and a virtual environment")
    if not (prepared / "mnist").exists():
        pytest.skip("needs prepared data: make data")
    copy = shutil.copytree(paths.ROOT, tmp_path / "a copy, n=1", ignore=LEFT)
    shutil.copytree(paths.ROOT / "lnexp" / "data", copy / "lnexp" / "data", ignore=LEFT, dirs_exist_ok=True)
    shutil.copytree(paths.CONFIGS / "data", copy / "configs" / "data", dirs_exist_ok=True)
    shutil.copytree(paths.ROOT / "tests" / "data", copy / "tests" / "data", ignore=LEFT, dirs_exist_ok=True)
    os.symlink(prepared, copy / "data")
    (copy / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        os.symlink(Path(sys.prefix) / name, copy / ".venv" / name)
    (copy / ".venv" / ".done").touch()
    return copy


@pytest.mark.parametrize("given", ["FIG=fig6", pytest.param("SEEDS=1", marks=pytest.mark.slow)])
def test_reproduce_in_a_fresh_copy(given: str, fresh: Path) -> None:
    def committed() -> dict[str, str]:
        files = [p for p in (fresh / "results").rglob("*") if p.is_file() and "smoke" not in p.parts]
        return {str(p.relative_to(fresh)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def reproduce() -> str:
        command = ["make", "reproduce", "SCALE=smoke", given]
        environment = environ(PYTHONPATH=str(fresh), WANDB_MODE="disabled")
        done = subprocess.run(command, cwd=fresh, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert max(map(len, done.stderr.split("\n")), default=0) < 500  # no bar in a log
        return done.stdout

    before = committed()
    said = reproduce()
    assert "0 of 6 runs of fig6 are finished" in said or given != "FIG=fig6"
    results = fresh / "results" / "smoke"
    for name in ("claims.csv", "REPORT.md", "figures/fig6_mnist.png", "tables/mnist.csv"):
        assert (results / name).stat().st_size > 0, name
    assert committed() == before
    written = {p: p.stat().st_mtime_ns for p in results.rglob("summary.json")}
    assert "are up to date" in reproduce()
    assert {p: p.stat().st_mtime_ns for p in results.rglob("summary.json")} == written
