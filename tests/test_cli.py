"""The real command: mistakes are one line and exit code 2, grids go on and resume."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from lnexp import paths
from lnexp.cli import explain
from lnexp.nn import NORMS
from tests.processes import PYTHON, Started, train


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "task is not set: give task=..., one of"),
        (["task=mnits"], "task=mnits: allowed are"),
        (["task=mnits"], "did you mean mnist?"),
        (["task=mnist", "norm=lm"], "norm=lm: allowed are bn, bn_everywhere, dyt, group, ln, ln_simple, none, rms, wn"),
        (["task=mnist", "nrom=ln"], "nrom: there is no such key; did you mean norm?"),
        (["task=mnist", "optimizer.lrr=1"], "optimizer.lrr: there is no such key; did you mean optimizer.lr?"),
        (["task=mnist", "scale=huge"], "scale=huge: allowed are desk, paper, smoke"),
        (["task=mnist", "experiment=fig7"], "experiment=fig7: allowed are"),
        (["task=mnist", "batch_size=0"], "batch_size=0: must be a whole number, 1 or more"),
        (["task=mnist", "batch_size=many"], "batch_size=many: must be a whole number"),
        (["task=mnist", "seed=-1"], "seed=-1: must be a whole number, 0 or more"),
        (["task=mnist", "optimizer.lr=-1"], "optimizer.lr=-1: must be a number above 0"),
        (["task=mnist", "optimizer.name=adma"], "optimizer.name=adma: allowed are adam, adam_slip, rmsprop; did you mean adam?"),
        (["task=mnist", "norm=bn", "batch_size=1"], "batch_size=1: norm=bn needs at least 2 cases"),
        (["task=mnist", "norm.eps=-1"], "norm.eps=-1: must be 0 or more"),
        (["task=mnist", "norm=group", "norm.groups=0"], "norm.groups=0: must be a whole number, 1 or more, or null"),
        (["task=mnist", "data=idx"], "data.root is not set: give data.root=..."),
        (["task=mnist", "data=idx", "data.root=/no/such"], "data.root=/no/such: there is no such folder"),
        (["task=mnist", "device=gpu"], "device=gpu: allowed are auto, cpu, cuda"),
        (["task=mnist", "device=cuda:99"], "device=cuda:99: this machine has"),
        (["task=mnist", "skip=all"], "skip=all: allowed are null, tabled"),
        (["task=mnist", "wandb.mode=on"], "wandb.mode=on: allowed are"),
        (["task=mnist", "epochs=null", "max_updates=null"], "one of them must end the run"),
        (["task=mnist", "x y"], "cannot read 'x y': give name=value"),
        (["task=mnist", "batch_size="], "batch_size is empty: give batch_size=VALUE"),
        (["task=mnist", "task.hidden_sizes="], "task.hidden_sizes is empty: give task.hidden_sizes=VALUE"),
        (["task=mnist", "task.hidden_sizes=[a]"], "task.hidden_sizes=['a']: must be a list of whole numbers"),
        (["task=permuted_mnist", "task.pool=few"], "task.pool=few: must be a whole number"),
        (["task=mnist", "+task.x=1"], "task.x: task=mnist has no such option; there are"),
        (["task=mnist", "~task.hidden_sizes"], "task.hidden_sizes is missing: task=mnist needs it"),
        (["task=mnist", "norm=ln,bn"], "norm=ln,bn: several values; add -m"),
        (["task=mnist", "--sed=1"], "--sed=1: there is no such option"),
        (["task=mnist", "--cfg"], "--cfg needs a value: job, hydra, all"),
        (["task=mnist", "--cfg", "jb"], "--cfg=jb: allowed are all, hydra, job"),
        (["task=mnist", "-m", "--cfg", "job"], "--cfg and --multirun: give one of them"),
        (["-m", "task=mnist", "norm=glob(x*)"], "norm=glob(x*): matches nothing"),
        (["-m", "task=mnist", "optimizer.lr=interval(0,1)"], "an interval has no list of values"),
        (["task=mnist", "data=idx", "data.root=/x/set=a"], "type 'data.root=\"/x/set=a\"'"),
        (["task=mnist", "data=idx", "data.root=/data/josé"], "type 'data.root=\"/data/josé\"'"),
        (["task=mnist", "data=idx", "data.root=/data/a,b"], "type 'data.root=\"/data/a,b\"'"),
        (["task=mnist", "data=idx", "data.root=~/x"], f"type data.root={Path.home()}/x"),
        (["experiment=fig1_flickr8k"], "runs 1-10 of 10: data.root is not set: give data.root=..."),
        (["experiment=fig6,fig7"], "experiment=fig7: allowed are"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(overrides: list[str], says: str) -> None:
    done = train(*overrides)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")


def test_more_examples_in_a_batch_than_there_are(smoke: list[str]) -> None:
    done = train(*smoke, "batch_size=5000")
    assert (done.returncode, "batch_size=5000: there are only" in done.stderr) == (2, True), done.stderr


def test_a_norm_that_does_not_fit_a_layer(smoke: list[str]) -> None:
    for more in ((), ("plan=true",)):
        done = train(*smoke, "norm=group", "norm.groups=7", *more)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1] == "error: norm.groups=7: must divide the 32 units or channels of a layer"


def test_a_results_folder_that_cannot_be_written(smoke: list[str]) -> None:
    done = train(*smoke, "results_dir=/sys/lnexp")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write /sys/lnexp" in done.stderr


def test_a_full_disk_is_told_and_nothing_is_lost(smoke: list[str], tmp_path: Path) -> None:
    """A limit on file size stands for the full disk: the checkpoint does not fit, and what was there stays."""
    given = [*smoke, "norm=ln", "max_updates=60"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    command = [sys.executable, str(paths.ROOT / "train.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "make room and give the same command" in told[0]
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    assert not (folder / "summary.json").exists()
    assert (folder / "metrics.csv").read_text().startswith("step,epoch")
    assert train(*given).returncode == 0
    assert (folder / "summary.json").exists()


def test_errors_of_the_file_system_and_errors_of_ours() -> None:
    assert "choose another place" in str(explain(OSError(errno.EROFS, "Read-only file system", "/x"), []))
    assert "make room" in str(explain(OSError(errno.ENOSPC, "No space left on device"), []))
    assert explain(OSError(errno.EIO, "Input/output error"), []) is None
    assert explain(RuntimeError("ours"), []) is None


def test_a_second_process_says_who_holds_the_run(smoke: list[str]) -> None:
    given = [*smoke, "max_updates=100000", "epochs=null", "log_every=5"]
    first = Started("train.py", *given)
    try:
        while first.running() and not first.said()[1]:  # its first line: it is training
            time.sleep(0.05)
        second = train(*given)
        assert second.returncode == 2
        assert f"is being trained by process {first.process.pid} on " in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
    finally:
        first.kill()
        first.wait(10)


def test_help_says_what_each_choice_is() -> None:
    done = train("--help")
    assert done.returncode == 0
    for group in ("task", "norm", "scale", "experiment", "data"):
        for path in (paths.CONFIGS / group).glob("*.yaml"):
            assert re.search(rf"\n  {path.stem} +\w.+", done.stdout), path


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_grid_runs_resumes_and_survives_a_run_that_cannot_be_made(launcher: str, smoke: list[str], tmp_path: Path) -> None:
    """Batch size 1 under BN is a mistake; the others are made, and a second call makes none anew."""
    seeds = [0, 1] if launcher != "submitit_local" else [0]  # there, each run is a process that imports everything
    given = ["-m", *smoke, "norm=bn,ln", "batch_size=1,64", f"seed={','.join(map(str, seeds))}", "max_updates=10"]
    given += ["task.hidden_sizes=[8]", f"hydra/launcher={launcher}"]
    if launcher == "submitit_local":
        given += ["hydra.launcher.timeout_min=5"]
    command = partial(train, launcher=None if launcher == "basic" else PYTHON)  # the others' processes outlive a copied one
    done = command(*given)
    assert done.returncode == 2, done.stderr
    folders = sorted((tmp_path / "results" / "runs" / "mnist").iterdir())
    assert [f.name.split("-s")[0] for f in folders] == [
        norm_and_batch for norm_and_batch in ("bn-b64", "ln-b1", "ln-b64") for _ in seeds
    ]
    written = [(f / "summary.json").stat().st_mtime_ns for f in folders]
    again = command(*given)
    assert [(f / "summary.json").stat().st_mtime_ns for f in folders] == written
    if launcher == "basic":
        assert "error: runs 1-2 of 8: batch_size=1: norm=bn needs at least 2 cases" in done.stderr
        assert "(8 of 8)" in done.stderr
        assert "6 of 8 runs are finished already" in again.stderr


def test_all_runs_of_two_experiments_with_options_in_any_place(smoke: list[str], tmp_path: Path) -> None:
    """Also an experiment beside -m, a sweep over two tasks, and a launcher."""
    given = ["experiment=fig6,permuted_mnist", *smoke, "seed=0", "batch_size=32,64", "max_updates=2"]
    given.remove("task=mnist")
    done = train(*given[:3], "-m", *given[3:], "norm=none,ln")
    assert done.returncode == 0, done.stderr
    assert "(8 of 8)" in done.stderr
    runs = tmp_path / "results" / "runs"
    assert {p.name: len(list(p.iterdir())) for p in runs.iterdir() if p.is_dir()} == {"mnist": 4, "permuted_mnist": 4}
    done = train(
        *smoke, "seed=0", "batch_size=32", "max_updates=2", "norm=glob(*,exclude=bn*)", "task=mnist,permuted_mnist", "-m"
    )
    assert done.returncode == 0, done.stderr
    assert f"4 of {2 * sum(not norm.startswith('bn') for norm in NORMS)} runs are finished already" in done.stderr


def test_hydras_own_options_and_completion() -> None:
    done = train("norm=bn", "--cfg", "job", "task=mnist")
    assert (done.returncode, "name: bn" in done.stdout) == (0, True), done.stderr
    done = train("task=mnist", "--info", "defaults")
    assert (done.returncode, "task_scale/mnist_desk" in done.stdout) == (0, True), done.stderr
    done = train("-sc", "query=bash", COMP_LINE="train.py task=permuted_", COMP_POINT="23")
    assert (done.returncode, done.stdout.strip()) == (0, "task=permuted_mnist"), done.stderr


def test_slurm_is_offered() -> None:
    done = train("task=mnist", "hydra/launcher=submitit_slurm", "--cfg", "hydra")
    assert done.returncode == 0, done.stderr
    assert "SlurmLauncher" in done.stdout


def test_output_that_nobody_reads_is_no_fault() -> None:
    """`train.py --help | head`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "train.py", "--help"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT, timeout=300)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")
