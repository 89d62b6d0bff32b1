"""Every task, under every norm: paired starts, a loss that falls, measures that are declared."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from lnexp.config import compose, make_norm, make_task
from lnexp.identity import run_folder
from lnexp.nn import NORMS
from lnexp.seeding import fold, generator, seed_everything, set_aside
from lnexp.tasks import TASKS, Task
from lnexp.training import checkpoint
from lnexp.training.distributed import ProcessGroup
from lnexp.training.run import run
from lnexp.training.runlog import read_rows


def configured(task: str, norm: str, smoke_of: dict[str, list[str]]) -> tuple[DictConfig, Task]:
    """A task on data of the tests' own."""
    cfg = compose([*smoke_of[task], f"norm={norm}"])
    return cfg, make_task(cfg, "cpu")


def start(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters a model starts with, under the names that they have without weight normalisation."""
    return {re.sub(r"parametrizations\.(\w+)\.original1", r"\1", name): p for name, p in model.named_parameters()}


@pytest.mark.parametrize("task", list(TASKS))
def test_runs_of_one_seed_are_paired(task: str, smoke_of: dict[str, list[str]]) -> None:
    """All norms start from the baseline's own parameters and see equal batches."""
    of_norm = {}
    for norm in NORMS:
        cfg, this = configured(task, norm, smoke_of)
        seed_everything(3, "init")
        of_norm[norm] = start(this.build(make_norm(cfg))), this.batches("train", 8, seed=3, epoch=1)[2]
    parameters, batch = of_norm["none"]
    assert any(p.dim() > 1 for p in parameters.values())
    for norm, (others, other_batch) in of_norm.items():
        missing = {name for name in parameters if name not in others}
        assert all("bias" in name for name in missing), (norm, missing)  # a norm's own bias may take a linear layer's place
        for name, value in parameters.items():
            assert name in missing or torch.equal(value, others[name]), (norm, name)
        for name, tensor in batch.items():
            assert torch.equal(tensor, other_batch[name]), (norm, name)


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("task", list(TASKS))
def test_the_loss_of_one_batch_falls_and_measures_are_declared(task: str, norm: str, smoke_of: dict[str, list[str]]) -> None:
    cfg, this = configured(task, norm, smoke_of)
    seed_everything(0, "init")
    model = this.build(make_norm(cfg))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    batch = this.batches("train", 32, seed=0)[0]
    losses, loss_and_parts = [], ProcessGroup("cpu").wrap(model, this.loss)
    for _ in range(150):
        optimizer.zero_grad()
        loss, _ = loss_and_parts(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-10:]) < 0.95 * losses[0]
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    measured = {f"{e.name}/{name}": v for e in this.evaluations() for name, v in e.measure(model).items()}
    assert {curve.metric for curve in this.curves} <= set(measured)
    assert all(np.isfinite(v) for v in measured.values())


@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("task", list(TASKS))
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(
    task: str, norm: str, smoke_of: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of an epoch, between two checkpoints."""
    short = [*smoke_of[task], f"norm={norm}", "max_updates=24", "epochs=null", "eval_every=null", "evaluations=3"]
    of_run = {}
    for place, breaks in (("whole", False), ("broken", True)):
        cfg = compose([*short, "checkpoint_every=5", f"results_dir={tmp_path}/{place}"])
        with monkeypatch.context() as patch:
            if breaks:
                patch.setattr(TASKS[task], "loss", stopping(TASKS[task].loss, 13))
                with pytest.raises(KeyboardInterrupt):
                    run(cfg)
        run(cfg)
        rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in read_rows(run_folder(cfg))]
        weights = checkpoint.load(run_folder(cfg) / checkpoint.LATEST)
        assert weights is not None
        of_run[place] = rows, weights["model"]
    assert of_run["whole"][0] == of_run["broken"][0]
    for name, value in of_run["whole"][1].items():
        assert torch.equal(value, of_run["broken"][1][name]), name


def stopping(loss: Callable, after: int) -> Callable:
    """A loss that is interrupted once training has called it so often."""
    calls = itertools.count()

    def stops(self: Task, model: nn.Module, batch: dict) -> torch.Tensor:
        if torch.is_grad_enabled() and next(calls) == after:
            raise KeyboardInterrupt
        return loss(self, model, batch)

    return stops


@pytest.mark.parametrize("task", list(TASKS))
def test_tasks_say_what_they_are(task: str) -> None:
    declared = TASKS[task]
    assert declared.name == task
    assert declared.revision >= 1
    assert declared.__doc__
    assert declared.differences, f"{task}: list each departure from the paper in `differences`"
    for sentence in declared.differences:
        assert sentence.endswith("."), f"{task}: end each sentence of `differences` with a full stop: {sentence[-60:]!r}"


def test_mnist_is_the_papers_network(smoke: list[str]) -> None:
    """784-1000-1000-10; LN on the hidden layers only, BN also on the logits (paper 6.6)."""
    sizes = {}
    for norm in ("none", "ln", "bn"):
        cfg = compose([*smoke, f"norm={norm}", "task.hidden_sizes=[1000,1000]"])
        model = make_task(cfg, "cpu").build(make_norm(cfg))
        assert [tuple(m.weight.shape) for m in model if isinstance(m, nn.Linear)] == [(1000, 784), (1000, 1000), (10, 1000)]
        sizes[norm] = [m.weight.shape[0] for m in model if isinstance(m, nn.LayerNorm | nn.BatchNorm1d)]
        biases = [m.bias is not None for m in model if isinstance(m, nn.Linear)]
        assert biases == {"none": [True] * 3, "ln": [False, False, True], "bn": [False] * 3}[norm]
    assert sizes == {"none": [], "ln": [1000, 1000], "bn": [1000, 1000, 10]}


def test_mnist_measures_by_hand(smoke_of: dict[str, list[str]]) -> None:
    cfg, task = configured("mnist", "none", smoke_of)
    model = task.build(make_norm(cfg)).eval()
    batch = task.batches("test", 1000)[0]
    log_p = torch.log_softmax(model(batch["x_BD"]).detach().double(), 1).numpy()
    y = batch["y_B"].numpy()
    measured = task.evaluate(model, "test")
    assert measured["nll"] == pytest.approx(-log_p[np.arange(len(y)), y].mean(), rel=1e-9)
    assert measured["error"] == pytest.approx((log_p.argmax(1) != y).mean())


def test_fold_separates_purposes() -> None:
    seeds = {fold(s, name, k) for s in range(10) for name in ("order", "noise") for k in range(10)}
    assert len(seeds) == 200
    assert fold(1, "order", 2) == fold(1, "order", 2)
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))


def test_what_runs_aside_disturbs_nothing() -> None:
    seed_everything(0, "x")
    expected = (torch.rand(3), np.random.rand())
    seed_everything(0, "x")
    with set_aside(0, "evaluation"):
        torch.rand(100)
        np.random.rand(7)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]
