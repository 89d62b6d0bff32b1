"""Grids that are killed, stopped, or made twice at once: every run is made once, as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lnexp import paths
from lnexp.training.runlog import read_rows
from tests.processes import Started, environ, train

GRID = ["-m", "norm=none,ln", "seed=0,1,2", "batch_size=16", "max_updates=300", "epochs=null", "eval_every=50"]
GRID += ["checkpoint_every=20", "log_every=7", "wandb.mode=disabled"]


def numbers(results: Path) -> dict[str, list[tuple[str, ...]]]:
    """run -> its metrics without times, of finished runs."""
    folders = [path.parent for path in (results / "runs" / "mnist").glob("*/summary.json")]
    return {f.name: [(r["step"], r["epoch"], r["split"], r["metric"], r["value"]) for r in read_rows(f)] for f in folders}


@pytest.fixture(scope="module")
def undisturbed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, ...]]]:
    results = tmp_path_factory.mktemp("undisturbed")
    done = train("task=mnist", "scale=smoke", "data=idx", f"data.root={digits}", f"results_dir={results}", *GRID)
    assert done.returncode == 0, done.stderr
    found = numbers(results)
    assert len(found) == 6
    return found


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_two_grids_at_once_killed_at_random(kills: int, smoke: list[str], tmp_path: Path, undisturbed: dict) -> None:
    """Two processes share one grid; one of them is killed at a random moment and started again, until all kills are done."""
    dice, results = random.Random(kills), tmp_path / "results"
    workers = [Started("train.py", *smoke, *GRID) for _ in range(2)]
    done = 0
    while done < kills:
        time.sleep(dice.uniform(0.0, 2.0))
        victim = dice.randrange(2)
        workers[victim].kill()
        done += 1
        code = workers[victim].wait(60)
        assert code in (0, -signal.SIGKILL), workers[victim].said()[1]
        if len(numbers(results)) == 6:  # all made: forget two runs, so that there is something to kill
            workers[1 - victim].wait(60)
            for path in sorted(results.glob("runs/mnist/*/summary.json"))[:: dice.choice((2, 3))]:
                path.unlink()
                for checkpoint in path.parent.glob("ckpt*.pt"):
                    checkpoint.unlink()
            workers[1 - victim] = Started("train.py", *smoke, *GRID)
        workers[victim] = Started("train.py", *smoke, *GRID)
    codes = [worker.wait(300) for worker in workers]
    assert codes == [0, 0], [worker.said()[1] for worker in workers]
    assert train(*smoke, *GRID).returncode == 0  # what the one had left to the other is made
    assert numbers(results) == undisturbed


def test_two_grids_at_once_both_end_well(smoke: list[str], tmp_path: Path, undisturbed: dict) -> None:
    workers = [Started("train.py", *smoke, *GRID) for _ in range(2)]
    assert [worker.wait(300) for worker in workers] == [0, 0], [worker.said()[1] for worker in workers]
    assert numbers(tmp_path / "results") == undisturbed
    said = "".join(worker.said()[1] for worker in workers)
    assert re.search(r"(is being trained|has just been finished) by .*skipped|finished already", said), said


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_launched_runs_save_a_checkpoint(
    number: signal.Signals, group: bool, smoke: list[str], tmp_path: Path, undisturbed: dict
) -> None:
    """Ctrl-C in the terminal of a grid on two cores, or SIGTERM to its first process alone."""
    given = [*smoke, *GRID, "checkpoint_every=null", "eval_every=300", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, str(paths.ROOT / "train.py"), *given]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT, env=environ(OMP_NUM_THREADS="1"), start_new_session=True
    ) as process:
        metrics = tmp_path / "results" / "runs" / "mnist"
        while process.poll() is None and not any(len(p.read_text().splitlines()) > 5 for p in metrics.glob("*/metrics.csv")):
            time.sleep(0.01)
        (os.killpg if group else os.kill)(process.pid, number)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "Stopping all runs after their current update" in said and "Traceback" not in said
    started = {path.parent for path in metrics.glob("*/config.yaml")}
    assert started and all((f / "ckpt.pt").exists() or (f / "summary.json").exists() for f in started)
    stopped = len([f for f in started if not (f / "summary.json").exists()])
    done = train(*given[:-2])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resumed at update") == stopped
    wanted = train(*given[:-2], f"results_dir={tmp_path}/whole")
    assert wanted.returncode == 0
    assert numbers(tmp_path / "results") == numbers(tmp_path / "whole")
