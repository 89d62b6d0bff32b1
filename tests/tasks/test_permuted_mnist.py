"""Permuted MNIST: the order of the pixels, their pooling, every cell under every norm, and the choice of the best model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lnexp import config
from lnexp.config import compose, make_norm, make_task
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.nn import NORMS
from lnexp.tasks.permuted_mnist import PermutedMNIST, pixel_order, pooled
from lnexp.training import run
from lnexp.training.runlog import read_rows
from lnexp.training.trainer import evaluate


def test_pixel_orders() -> None:
    assert pixel_order(196, "scan", "without_replacement").tolist() == list(range(196))
    permuted = pixel_order(784, "permuted", "without_replacement")
    assert sorted(permuted) == list(range(784))
    assert permuted.tolist() != list(range(784))
    np.testing.assert_array_equal(permuted, pixel_order(784, "permuted", "without_replacement"))
    drawn = pixel_order(784, "permuted", "with_replacement")
    assert 0.58 < len(set(drawn)) / 784 < 0.68  # 1 - 1/e are seen at all


def test_pooling_averages_squares() -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 784)).astype(np.uint8)
    np.testing.assert_allclose(pooled(x, 1), x / 255, rtol=1e-6)
    square = x[1].reshape(28, 28)[2:4, 4:6].mean() / 255
    assert pooled(x, 2)[1].reshape(14, 14)[1, 2] == pytest.approx(square, rel=1e-6)


@pytest.fixture
def overrides(smoke_of: dict[str, list[str]]) -> list[str]:
    return smoke_of["permuted_mnist"]


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells(cell: str, norm: str, overrides: list[str]) -> None:
    cfg = compose([*overrides, f"norm={norm}", f"task.cell={cell}"])
    task = make_task(cfg, "cpu")
    model = task.build(make_norm(cfg))
    task.loss(model, task.batches("train", 16, seed=0)[0]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_start_is_as_described(overrides: list[str]) -> None:
    """Orthogonal recurrent matrices gate by gate, zero biases but the forget gate's 1, states drawn small."""
    cfg = compose([*overrides, "norm=none"])
    model = make_task(cfg, "cpu").build(make_norm(cfg))
    h = cfg.task.hidden_size
    for gate in model.rnn.weight_hh_l0.detach().split(h):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(h), atol=1e-5, rtol=0)
    bias = model.rnn.bias_ih_l0 + model.rnn.bias_hh_l0
    assert bias.tolist() == [0.0] * h + [1.0] * h + [0.0] * 2 * h
    assert 0 < model.states[0].std() < 0.3


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_initial_matrices_are_scaled_and_nothing_else(norm: str, overrides: list[str]) -> None:
    models = []
    for scale in (1.0, 100.0):
        cfg = compose([*overrides, f"norm={norm}", f"task.init_scale={scale}"])
        torch.manual_seed(0)
        models.append(make_task(cfg, "cpu").build(make_norm(cfg)))
    scaled = {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_in_l0"}
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(other, one * (100 if name in scaled else 1))


def test_a_step_reads_a_chunk_of_pixels(overrides: list[str]) -> None:
    cfg = compose([*overrides, "norm=none", "task.chunk=7"])
    task = make_task(cfg, "cpu")
    model = task.build(make_norm(cfg)).eval()
    x_BT = task.batches("train", 3, seed=0)[0]["x_BT"]
    assert x_BT.shape == (3, 49)
    states = tuple(state.expand(1, 3, -1) for state in model.states)
    _, (h, _) = model.rnn(torch.stack([x_BT[:, 7 * t : 7 * t + 7] for t in range(7)]), states)
    torch.testing.assert_close(model(x_BT), model.output(h[0]))


def test_digits_in_a_row_are_classified_one_after_the_other(overrides: list[str]) -> None:
    """The loss and the accuracies of a net that counts what it has read, written out digit by digit."""
    cfg = compose([*overrides, "norm=none", "task.digits=2", "task.longer=2", "task.state_noise=0"])
    task = make_task(cfg, "cpu")
    assert isinstance(task, PermutedMNIST)
    model = task.build(make_norm(cfg)).eval()
    batch = task.batches("train", 5, seed=0)[0]
    x_BT, y_B = batch["x_BT"], batch["y_B"]
    total = 0.0
    for b in range(5):
        pair = [b, (b + 1) % 5]
        total += torch.nn.functional.cross_entropy(model(x_BT[pair[:1]]), y_B[pair[:1]]).item()
        total += torch.nn.functional.cross_entropy(model(torch.cat([x_BT[pair]]).view(1, -1)), y_B[pair[1:]]).item()
    assert task.loss(model, batch).item() == pytest.approx(total / 10, rel=1e-5)

    test = task.data["test"]
    right = 0
    for j in range(len(test["y_B"])):
        row = torch.cat([test["x_BT"][(j + k) % 200] for k in (-3, -2, -1, 0)])
        right += int(model(row[None]).argmax() == test["y_B"][j])
    assert set(values := task.evaluate_longer(model)) == {"accuracy_1", "accuracy_2"}
    assert values["accuracy_2"] == pytest.approx(right / 200)
    assert values["accuracy_1"] == task.evaluate(model, "test")["accuracy"]


def test_longer_sequences_are_read_at_the_end_of_a_run(overrides: list[str]) -> None:
    cfg = config.compose([*overrides, "norm=bn", "task.chunk=7", "task.digits=2", "task.longer=8"])
    run.run(cfg)
    rows = [(row["step"], row["metric"]) for row in read_rows(run_folder(cfg)) if row["split"] == "longer"]
    assert rows == [("30", f"accuracy_{n}") for n in (1, 2, 4, 8)]


def test_evaluation_adds_no_noise_and_training_does(overrides: list[str]) -> None:
    cfg = compose([*overrides, "norm=none"])
    task = make_task(cfg, "cpu")
    model = task.build(make_norm(cfg))
    x = task.batches("train", 4, seed=0)[0]["x_BT"]
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_the_test_digits_are_judged_by_the_best_model(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that gets worse in the end: test accuracy is that of its best weights."""
    accuracies = iter([0.2, 0.9, 0.4])
    seen: dict[str, list[torch.Tensor]] = {"valid": [], "test": []}

    def scripted(self: PermutedMNIST, model: torch.nn.Module, split: str) -> dict[str, float]:
        seen[split].append(model.output.weight.detach().clone())
        return {"nll": 1.0, "accuracy": next(accuracies) if split == "valid" else 0.5}

    monkeypatch.setattr(PermutedMNIST, "evaluate", scripted)
    cfg = config.compose([*overrides, "norm=ln"])
    summary = run.run(cfg)
    assert summary is not None
    assert summary["best"]["valid/accuracy"] == {"value": 0.9, "step": 20}
    (tested,) = seen["test"]
    assert torch.equal(tested, seen["valid"][1])
    rows = read_rows(run_folder(cfg))
    assert [(r["step"], r["value"]) for r in rows if (r["split"], r["metric"]) == ("test", "accuracy")] == [("30", "0.5")]


def test_batch_norm_is_evaluated_with_statistics_of_training_digits(overrides: list[str]) -> None:
    cfg = compose([*overrides, "norm=bn"])
    task, norm = make_task(cfg, "cpu"), make_norm(cfg)
    model = task.build(norm)
    before = {k: v.clone() for k, v in model.named_buffers()}
    values = evaluate(task, norm, model, 0, 0, "during")
    assert set(values) == {"valid/nll", "valid/accuracy"}
    assert any(not torch.equal(v, before[k]) for k, v in model.named_buffers())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.cell=lstn", "task.cell=lstn: allowed are gru, lstm, rnn; did you mean lstm?"),
        ("task.order=random", "task.order=random: allowed are permuted, scan"),
        ("task.permutation=true", "allowed are with_replacement, without_replacement"),
        ("task.pool=3", "task.pool=3: must divide 28"),
        ("task.hidden_size=0", "task.hidden_size=0: must be a whole number, 1 or more"),
        ("task.chunk=3", "task.chunk=3: must divide the number of pixels, 49"),
        ("task.longer=0", "task.longer=0: must be a whole number, 1 or more"),
        ("task.init_scale=0", "task.init_scale=0: must be a number above 0"),
    ],
)
def test_wrong_values_are_named(override: str, says: str, overrides: list[str]) -> None:
    with pytest.raises(UserError, match=says.replace("?", r"\?").replace(".", r"\.")):
        make_task(compose([*overrides, override]), "cpu")


def test_the_digits_of_both_tasks_are_the_same_set(digits: Path, overrides: list[str]) -> None:
    task = make_task(compose([*overrides, "task.valid_examples=null", "task.pool=1", "task.order=scan"]), "cpu")
    assert isinstance(task, PermutedMNIST)
    assert {k: len(v["y_B"]) for k, v in task.data.items()} == {"train": 1000, "valid": 200, "test": 200}
