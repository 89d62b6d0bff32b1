"""The loop: what it writes, what it leaves alone, and how it ends."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lnexp import config
from lnexp.identity import run_folder
from lnexp.tasks.base import Evaluation, words
from lnexp.tasks.mnist import MNIST
from lnexp.training import run
from lnexp.training.progress import Progress
from lnexp.training.runlog import read_rows
from lnexp.training.trainer import evaluate
from tests.processes import Started, train


def finish(*overrides: str) -> tuple[dict, Path]:
    cfg = config.compose(list(overrides))
    summary = run.run(cfg)
    assert summary is not None
    return summary, run_folder(cfg)


def test_a_run_writes_what_it_says(smoke: list[str]) -> None:
    summary, folder = finish(*smoke, "norm=ln", "batch_size=50")
    files = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "env.json", "metrics.csv", "ckpt.pt", "summary.json"} <= files
    rows = read_rows(folder)
    losses = [int(r["step"]) for r in rows if r["split"] == "train" and r["metric"] == "loss"]
    assert losses == list(range(5, 61, 5))
    errors = {int(r["step"]): float(r["value"]) for r in rows if (r["split"], r["metric"]) == ("test", "error")}
    assert list(errors) == list(range(10, 61, 10))
    assert summary["status"] == "finished"
    assert summary["steps"] == 60
    assert summary["final"]["test/error"] == errors[60]
    assert summary["best"]["test/error"]["value"] == min(errors.values())
    assert summary["final"]["test/error"] < 0.45  # half of chance: it has learned
    assert [int(r["epoch"]) for r in rows if r["split"] == "test"] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    start = json.loads((folder / "env.json").read_text())[0]
    assert {"commit", "dirty", "machine", "torch"} <= set(start)


def test_the_printed_loss_is_the_mean_since_the_last_row(smoke: list[str]) -> None:
    _, every = finish(*smoke, "log_every=1")
    _, fifth = finish(*smoke, "log_every=5")

    def loss(folder: Path) -> dict[int, float]:
        return {int(r["step"]): float(r["value"]) for r in read_rows(folder) if r["metric"] == "loss"}

    single = loss(every)
    for step, mean in loss(fifth).items():
        assert mean == pytest.approx(
            sum(single[s] for s in range(step - 4 if step % 5 == 0 else step, step + 1)) / (5 if step % 5 == 0 else 1)
        )


def test_evaluation_does_not_disturb_training(smoke: list[str], tmp_path: Path) -> None:
    weights = []
    for every in (1, 17):
        _, folder = finish(*smoke, "norm=ln", f"eval_every={every}", f"results_dir={tmp_path}/{every}")
        weights.append(torch.load(folder / "ckpt.pt", weights_only=True)["model"])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(smoke: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: MNIST, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["x_BD"]).sum() * math.inf

    monkeypatch.setattr(MNIST, "loss", broken)
    summary, folder = finish(*smoke, "norm=none")
    assert summary["status"] == "diverged"
    assert summary["steps"] == 5
    assert (folder / "summary.json").exists()


def test_texts_are_read_at_so_many_words_a_second(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    batch = {"words_TB": torch.zeros(3, 2), "lengths_B": torch.tensor([3, 2]), "answer_lengths_B": torch.tensor([1, 4])}
    for of, wanted in ((batch, "10.0 updates/s  100 words/s  0 s left\n"), ({}, "10.0 updates/s  0 s left\n")):
        monkeypatch.setattr("time.monotonic", lambda: 1.0)
        progress = Progress("run")
        progress.start(0, 20, ())
        for _ in range(20):
            progress.step(words(of))
        monkeypatch.setattr("time.monotonic", lambda: 3.0)
        progress.show(20, {})
        assert capsys.readouterr().err.endswith(wanted)


def test_an_error_leaves_no_summary(smoke: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: MNIST, model: nn.Module, split: str) -> dict[str, float]:
        raise RuntimeError("broken")

    monkeypatch.setattr(MNIST, "evaluate", broken)
    cfg = config.compose(smoke)
    with pytest.raises(RuntimeError, match="broken"):
        run.run(cfg)
    folder = run_folder(cfg)
    assert folder.exists()
    assert not (folder / "summary.json").exists()
    monkeypatch.undo()
    summary, _ = finish(*smoke)  # and the same command goes on
    assert summary["status"] == "finished"


def test_the_same_seed_twice_is_the_same_run(smoke: list[str], tmp_path: Path) -> None:
    values = []
    for place in ("a", "b"):
        _, folder = finish(*smoke, f"results_dir={tmp_path}/{place}")
        values.append([(r["step"], r["metric"], r["value"]) for r in read_rows(folder)])
    assert values[0] == values[1]


def test_plan_says_what_a_run_would_cost_and_makes_none(smoke: list[str], capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert run.run(config.compose([*smoke, "plan=true", "batch_size=50"])) is None
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert (
        told["parameters"] == f"{784 * 32 + 32 * 32 + 32 * 10 + 2 * (32 + 32) + 10:,}"
    )  # weights, gains and biases, logits' bias
    assert told["updates"].startswith("60 (20 an epoch)")
    assert not (tmp_path / "results").exists()


def test_a_signal_saves_a_checkpoint_of_the_current_update(smoke: list[str], tmp_path: Path) -> None:
    """SIGTERM in the middle of an epoch: the same command continues there, and ends as a run that was not stopped."""
    long = [*smoke, "norm=ln", "max_updates=400", "epochs=null", "eval_every=400", "log_every=1", "batch_size=16"]
    started = Started("train.py", *long, "checkpoint_minutes=null")
    metrics = tmp_path / "results" / "runs" / "mnist"
    while started.running() and not any(len(p.read_text().splitlines()) > 5 for p in metrics.glob("*/metrics.csv")):
        time.sleep(0.01)
    os.kill(started.process.pid, signal.SIGTERM)
    assert started.wait(60) == 130, started.said()
    assert "Stopping after this update" in started.said()[1]
    (folder,) = metrics.iterdir()
    stopped = int(read_rows(folder)[-1]["step"])
    assert 0 < stopped < 400
    done = train(*long)
    assert done.returncode == 0, done.stderr
    assert f"resumed at update {stopped} of 400" in done.stderr
    _, reference = finish(*long, f"results_dir={tmp_path}/whole")
    again = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in read_rows(folder)]
    assert again == [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in read_rows(reference)]


def test_parts_of_a_loss_are_logged_and_their_sum_is_the_loss(smoke_of: dict[str, list[str]]) -> None:
    _, folder = finish(*smoke_of["order_embeddings"])
    logged: dict[int, dict[str, float]] = {}
    for row in read_rows(folder):
        if row["split"] == "train":
            logged.setdefault(int(row["step"]), {})[row["metric"]] = float(row["value"])
    assert all(set(of) == {"loss", "images", "captions"} for of in logged.values())
    for of in logged.values():
        assert of["images"] + of["captions"] == pytest.approx(of["loss"], rel=1e-5)


def test_samples_are_written_under_the_run_and_can_be_left_out(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    for task, name in (("order_embeddings", "retrieved.html"), ("question_answering", "answers.png")):
        _, folder = finish(*smoke_of[task])
        assert (folder / "samples" / name).stat().st_size > 1000
        _, folder = finish(*smoke_of[task], "samples=false", f"results_dir={tmp_path}/without")
        assert not (folder / "samples").exists()


def test_evaluations_draw_the_same_noise_under_every_norm(smoke: list[str]) -> None:
    """Also under batch normalisation, whose statistics are estimated before."""
    drawn = {}
    for norm_name in ("none", "bn"):
        cfg = config.compose([*smoke, f"norm={norm_name}"])
        task, norm = config.make_task(cfg, "cpu"), config.make_norm(cfg)
        noisy = Evaluation("noisy", lambda model: {"draw": torch.rand(()).item()})
        task.evaluations = lambda noisy=noisy: (noisy,)  # type: ignore[method-assign, misc]
        drawn[norm_name] = evaluate(task, norm, task.build(norm), seed=3, step=10, when="during")
    assert drawn["none"] == drawn["bn"]
