"""Weights & Biases: what is written offline, and that it never stops a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lnexp import paths
from tests.processes import PYTHON, environ, train

NO_CREDENTIALS = {"WANDB_MODE": None, "WANDB_API_KEY": None, "NETRC": "/dev/null"}


def records(wandb_folder: Path) -> list[list[dict]]:
    """What each W&B run in a folder holds, oldest first."""
    tool = Path(sys.executable).parent / "wandb"
    found = []
    for log in sorted(wandb_folder.glob("offline-run-*/*.wandb")):
        done = subprocess.run([str(tool), "leet", "inspect", "--json", str(log)], capture_output=True, text=True, check=True)
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    return found


def history(log: list[dict]) -> dict[int, dict]:
    """step -> values of the history records of one run."""
    steps: dict[int, dict] = {}
    for record in log:
        if record["type"] == "history":
            values = record["history"]["item"]
            steps.setdefault(int(values["_step"]), {}).update(values)
    return steps


def test_offline_without_credentials_every_step_with_its_axis(smoke: list[str], tmp_path: Path) -> None:
    done = train(*smoke, "norm=ln", **NO_CREDENTIALS)
    assert done.returncode == 0, done.stderr
    (log,) = records(tmp_path / "results" / "wandb")
    steps = history(log)
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    for line in (folder / "metrics.csv").read_text().splitlines()[1:]:
        step, epoch, _, _, split, metric, value = line.split(",")
        logged = steps[int(step)]
        assert logged[f"{split}/{metric}"] == pytest.approx(float(value))
        assert logged["update"] == int(step)
        assert logged["epoch"] == int(epoch)
    run = next(r["run"] for r in log if r["type"] == "run")
    assert run["run_id"] == f"mnist-{folder.name}"
    assert run["config"]["update"]["norm"]["name"] == "ln"
    defined = {r["metric"].get("name") or r["metric"].get("glob_name"): r["metric"] for r in log if r["type"] == "metric"}
    assert defined["*"]["step_metric"] == "update"
    assert "test/error" in defined


def test_a_resumed_run_keeps_its_id_and_all_its_steps(smoke: list[str], tmp_path: Path) -> None:
    assert train(*smoke, **NO_CREDENTIALS).returncode == 0
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    (folder / "summary.json").unlink()  # as if killed just before the end
    (first,) = records(tmp_path / "results" / "wandb")
    assert train(*smoke, **NO_CREDENTIALS).returncode == 0
    (second,) = records(tmp_path / "results" / "wandb")  # the first start's folder, which holds nothing more, is gone
    assert set(history(second)) == set(history(first))
    assert next(r["run"]["run_id"] for r in second if r["type"] == "run") == f"mnist-{folder.name}"


def test_a_grid_makes_one_wandb_run_for_each(smoke: list[str], tmp_path: Path) -> None:
    assert train("-m", *smoke, "norm=none,ln", **NO_CREDENTIALS).returncode == 0
    logs = records(tmp_path / "results" / "wandb")
    assert len({next(r["run"]["run_id"] for r in log if r["type"] == "run") for log in logs}) == 2


def test_the_environments_variables_hold(smoke: list[str], tmp_path: Path) -> None:
    given = {"PROJECT": "layers", "ENTITY": "me", "DIR": str(tmp_path / "else where"), "NAME": "mine", "RUN_GROUP": "all"}
    environment = {f"WANDB_{key}": value for key, value in given.items()} | {"WANDB_TAGS": "one,two"}
    done = train(*smoke, **(NO_CREDENTIALS | environment))
    assert done.returncode == 0, done.stderr
    assert f"logged offline in {tmp_path}/else where/wandb; to upload: wandb sync " in done.stderr
    assert not (tmp_path / "results" / "wandb").exists()
    (log,) = records(tmp_path / "else where" / "wandb")
    run = next(r["run"] for r in log if r["type"] == "run")
    assert (run["project"], run["entity"], run["display_name"], run["run_group"]) == ("layers", "me", "mine", "all")
    assert run["tags"] == ["one", "two"]


def test_runs_are_grouped_and_carry_their_commit_and_samples(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    done = train(*smoke_of["question_answering"], **NO_CREDENTIALS)
    assert done.returncode == 0, done.stderr
    preset = [o for o in smoke_of["mnist"] if not o.startswith("task=")]
    done = train("experiment=fig6", *preset, "norm=ln", "seed=0", "batch_size=64", "max_updates=3", **NO_CREDENTIALS)
    assert done.returncode == 0, done.stderr
    logs = {
        next(r["run"]["run_group"] for r in log if r["type"] == "run"): log for log in records(tmp_path / "results" / "wandb")
    }
    assert set(logs) == {"question_answering-smoke", "fig6"}
    run = next(r["run"] for r in logs["fig6"] if r["type"] == "run")
    assert {"commit", "dirty"} <= set(run["config"]["update"])
    shown = [
        value
        for values in history(logs["question_answering-smoke"]).values()
        for key, value in values.items()
        if key[:8] == "samples/"
    ]
    assert any("image-file" in str(value) for value in shown)
    assert list((tmp_path / "results" / "wandb").glob("*/files/media/images/samples/answers_*.png"))


def test_an_invalid_mode_is_named(smoke: list[str]) -> None:
    done = train(*smoke, **(NO_CREDENTIALS | {"WANDB_MODE": "ofline"}))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "WANDB_MODE=ofline: allowed are auto, disabled, offline, online; did you mean offline?" in done.stderr


def test_a_run_of_a_sweep_keeps_the_agents_id(smoke: list[str], tmp_path: Path) -> None:
    """The command that W&B's agent makes from configs/wandb_sweep.yaml, offline."""
    sweep = yaml.safe_load((paths.CONFIGS / "wandb_sweep.yaml").read_text())
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    chosen = [f"{key}={p['value'] if 'value' in p else p['values'][-1]}" for key, p in sweep["parameters"].items()]
    environment = {"WANDB_SWEEP_ID": "abcd1234", "WANDB_RUN_ID": "xyz"}
    given = [o for o in smoke if not o.startswith("task=")]
    done = train(*chosen, *given, launcher=(*PYTHON,), **(NO_CREDENTIALS | environment))
    assert done.returncode == 0, done.stderr
    (log,) = records(tmp_path / "results" / "wandb")
    run = next(r["run"] for r in log if r["type"] == "run")
    assert (run["run_id"], run.get("sweep_id")) == ("xyz", "abcd1234")
    assert f"{sweep['metric']['name']}" in {name for values in history(log).values() for name in values}


def test_disabled_writes_nothing(smoke: list[str], tmp_path: Path) -> None:
    assert train(*smoke, "wandb.mode=disabled", **NO_CREDENTIALS).returncode == 0
    assert not (tmp_path / "results" / "wandb").exists()


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failing_wandb_never_stops_a_run(where: str, smoke: list[str], tmp_path: Path) -> None:
    """A package of that name that fails at each of its calls in turn."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "wandb.py").write_text(
        f"""
class Settings:
    def __init__(self, **k): pass
class Run:
    step, summary = 0, {{}}
    def define_metric(self, *a, **k): pass
    def log(self, *a, **k):
        if {where == "log"}: raise ConnectionError("no route to host")
    def finish(self):
        if {where == "finish"}: raise ConnectionError("no route to host")
def login(**k): return False
def init(**k):
    if {where == "init"}: raise ConnectionError("no route to host")
    return Run()
"""
    )
    done = train(*smoke, **NO_CREDENTIALS, PYTHONPATH=f"{fake}{os.pathsep}{paths.ROOT}", launcher=PYTHON)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Weights & Biases failed (no route to host)") == 1
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    assert (folder / "summary.json").exists()


@pytest.fixture(params=["own", "another's"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B's background process: one that the run starts, or one that the process before it has left in the environment."""
    if request.param == "own":
        yield
    else:
        import wandb

        monkeypatch.setenv("WANDB_MODE", "offline")
        wandb.setup()
        assert "WANDB_SERVICE" in os.environ
        yield
        wandb.teardown()


@pytest.mark.usefixtures("service")
def test_credentials_without_a_network_fall_back_to_offline(smoke: list[str], tmp_path: Path) -> None:
    """A key, and a server that is not there: one line, and the run is logged offline."""
    unreachable = {**NO_CREDENTIALS, "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = train(*smoke, **unreachable)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Weights & Biases is out of reach") == 1
    assert "Weights & Biases failed" not in done.stderr, done.stderr
    assert records(tmp_path / "results" / "wandb"), done.stderr


def test_finished_runs_can_be_replayed(smoke: list[str], tmp_path: Path) -> None:
    assert train(*smoke, "wandb.mode=disabled").returncode == 0
    (folder,) = (tmp_path / "results" / "runs" / "mnist").iterdir()
    command = [sys.executable, str(paths.ROOT / "scripts" / "wandb_push.py"), str(folder), "--mode", "offline"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ(**NO_CREDENTIALS))
    assert done.returncode == 0, done.stderr
    (log,) = records(tmp_path / "results" / "wandb")
    steps = {int(line.split(",")[0]) for line in (folder / "metrics.csv").read_text().splitlines()[1:]}
    assert set(history(log)) == steps
