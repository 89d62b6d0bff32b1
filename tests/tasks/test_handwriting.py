"""Handwriting: its network against the equations, what it measures, and what it writes."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lnexp.config import compose, make_norm, make_task
from lnexp.data.strokes.alphabet import SYMBOLS, encode
from lnexp.identity import run_folder
from lnexp.nn import NORMS
from lnexp.nn.ops.mixture_density import Mixture, mixture_density
from lnexp.seeding import generator, seed_everything
from lnexp.tasks.base import words
from lnexp.tasks.handwriting import pictures
from lnexp.tasks.handwriting.model import HandwritingNet, real
from lnexp.tasks.handwriting.task import Handwriting
from lnexp.tasks.handwriting.write import Written, draw, write
from lnexp.training.run import run
from tests.processes import call


def made(smoke_of: dict[str, list[str]], norm: str, *overrides: str) -> tuple[Handwriting, HandwritingNet]:
    cfg = compose([*smoke_of["handwriting"], f"norm={norm}", *overrides])
    task = make_task(cfg, "cpu")
    seed_everything(0, "init")
    model = task.build(make_norm(cfg))
    assert isinstance(task, Handwriting) and isinstance(model, HandwritingNet)
    return task, model


def test_the_papers_network_has_its_size(smoke_of: dict[str, list[str]]) -> None:
    """Three LSTMs of 400, two biases each: 3,650,151 weights and 3 x 1,600 second biases."""
    sizes = ["task.hidden_size=400", "task.layers=3", "task.windows=10", "task.mixtures=20"]
    _, model = made(smoke_of, "none", *sizes)
    assert sum(p.numel() for p in model.parameters()) == 3_650_151 + 3 * 1600
    _, prediction = made(smoke_of, "none", *sizes, "task.network=prediction")
    assert [tuple(layer.weight_ih_l0.shape) for layer in prediction.rnn] == [(1600, 3), (1600, 403), (1600, 403)]


@pytest.mark.parametrize("norm", ["none", "ln", "bn", "wn"])
@pytest.mark.parametrize("network", ["synthesis", "prediction"])
def test_the_network_is_the_same_step_by_step(network: str, norm: str, smoke_of: dict[str, list[str]]) -> None:
    """Having read points one by one, `write` draws from the outputs that training computes for the whole line."""
    task, model = made(smoke_of, norm, f"task.network={network}")
    for k in range(3):
        model.nll(task.batches("train", 16, seed=0)[k])  # batch statistics of training
    model.eval()
    batches, outputs = task.batches("test", 1), []
    k = next(k for k in range(24) if int(batches[k]["lengths_B"]) > 10)
    line = int(task.set.splits["test"][k])
    prime = task.set.standardised(line, 10), task.set.texts[line]
    whole_NP = model(batches[k]).detach()
    hook = model.output.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    (sample,) = write(model, prime[1][:0], [1.0], 5.0, prime, generator(0, "test"))
    hook.remove()
    torch.testing.assert_close(outputs[0][0], whole_NP[10], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sample.offsets[:10], prime[0])
    assert len(sample.offsets) > sample.primed == 10
    if network == "synthesis":
        _, w_TBC = model.read(batches[k])
        hot_UC = nn.functional.one_hot(torch.from_numpy(sample.text.astype(np.int64)), SYMBOLS).float()
        torch.testing.assert_close(
            torch.from_numpy(sample.phi_TU[:11, :-1]) @ hot_UC, w_TBC[:11, 0].detach(), rtol=1e-3, atol=1e-5
        )


def test_a_text_is_read(smoke_of: dict[str, list[str]]) -> None:
    """The synthesis network learns to use the text: with another line's text the likelihood falls."""
    task, model = made(smoke_of, "ln", "task.steps=24")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(40):
        for k in range(3):
            optimizer.zero_grad()
            task.loss(model, task.batches("train", 20, 0, epoch)[k])[0].backward()
            optimizer.step()
    batch = task.batches("valid", 24)[0]
    with torch.no_grad():
        own = task.loss(model, batch)[0]
        other = {**batch, "codes_BU": batch["codes_BU"].roll(1, 0), "characters_B": batch["characters_B"].roll(1)}
        assert own < task.loss(model, other)[0] - 0.05


def test_measures_by_hand(smoke_of: dict[str, list[str]]) -> None:
    task, model = made(smoke_of, "none")
    model.eval()
    measured, nll, squares, steps = task.evaluate(model, "test"), 0.0, 0.0, 0
    for k in range(24):
        batch = task.batches("test", 1)[k]
        y_NP = model(batch).detach()
        target_N3 = batch["target_TB3"][: len(y_NP), 0]
        nll += mixture_density(y_NP, target_N3).sum().item()
        m = Mixture(y_NP)
        mean_N2 = torch.stack([(m.log_pi_NM.exp() * mean_NM).sum(1) for mean_NM in (m.mean_x_NM, m.mean_y_NM)], 1)
        squares += (target_N3[:, :2] - mean_N2).square().sum().item()
        steps += len(y_NP)
    assert measured["nll"] == pytest.approx(nll / 24, rel=1e-5)
    assert measured["nll_per_step"] == pytest.approx(nll / steps, rel=1e-5)
    assert measured["squared_error"] == pytest.approx(squares / steps, rel=1e-5)
    batch = task.batches("test", 24)[0]
    loss, parts = task.loss(model, batch)
    loss = loss.detach()
    assert float(loss) == pytest.approx(measured["nll_per_step"], rel=1e-5)
    assert float(parts["nll"]) == pytest.approx(measured["nll"], rel=1e-5)
    assert float(parts["position"] + parts["end"]) == pytest.approx(float(loss), rel=1e-5)
    assert words(batch) == int(real(batch).sum()) == steps


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_padding_changes_nothing(norm: str, smoke_of: dict[str, list[str]]) -> None:
    """In training, too: batch statistics are those of real points."""
    task, model = made(smoke_of, norm)
    batch = task.batches("train", 16, seed=0)[0]
    padded = {
        **batch,
        **{name: nn.functional.pad(batch[name], (0, 0, 0, 0, 0, 5), value=7.0) for name in ("x_TB3", "target_TB3")},
    }
    torch.testing.assert_close(model.nll(padded), model.nll(batch), rtol=1e-4, atol=1e-5)


def test_draws_follow_the_mixture() -> None:
    """Mean, spread, correlation and share of ends of many draws, unbiased and biased (Graves 2013, equations 60-62)."""
    y_1P = torch.tensor([[0.5, 0.0, 0.0, 1.0, 1.0, -1.0, -1.0, -0.3, -0.3, 0.2, 0.2, 0.8, 0.8]])
    for bias in (0.0, 1.0):
        torch.manual_seed(0)
        draws_N3 = draw(y_1P.expand(40000, -1), torch.full((40000, 1), bias), None).numpy()
        assert draws_N3[:, :2].mean(0) == pytest.approx([1, -1], abs=0.02)
        assert draws_N3[:, :2].std(0) == pytest.approx(np.exp([-0.3 - bias, 0.2 - bias]), rel=0.02)
        assert np.corrcoef(draws_N3[:, 0], draws_N3[:, 1])[0, 1] == pytest.approx(np.tanh(0.8), abs=0.01)
        assert draws_N3[:, 2].mean() == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.01)


def test_pictures_show_the_ink_where_it_is() -> None:
    offsets = np.array([[1, 0, 0], [0, 1, 1], [2, 0, 0], [1, 1, 1]], float)
    assert [stroke.tolist() for stroke in pictures.strokes(offsets)] == [[[0, 0]], [[1, 0], [1, 1]], [[3, 1], [4, 2]]]
    sample = Written(offsets, 2, np.eye(4), encode("abc"), True)
    prime, own = pictures.ink(sample, np.array([0.0, 0.0]), np.array([2.0, 3.0]))
    assert own[-1].tolist() == [[6, 3], [8, 6]]
    drawn = pictures.svg([(prime, own)])
    assert drawn.startswith("<svg ") and len(re.findall(r"M[^M\"]*", drawn)) == len(prime) + len(own)
    assert len(pictures.alignment(sample).axes[0].get_yticklabels()) == 4


def test_a_run_writes_samples_and_a_text(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    cfg = compose([*smoke_of["handwriting"], "norm=ln"])
    summary = run(cfg)
    assert summary is not None and {"final/nll", "graves/nll"} <= set(summary["final"])
    folder = run_folder(cfg)
    assert {path.name for path in (folder / "samples").iterdir()} == {"samples.png", "samples.svg", "alignment.png"}
    write_text, out = partial(call, "scripts/demo/write.py", folder), tmp_path / "out" / "abc"
    done = write_text("abc7", "--style", "d01-000-01", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 characters are not in the table and become one symbol: 7" in done.stderr
    assert {path.name for path in out.parent.iterdir()} == {"abc.svg", "abc.png", "abc-window.png", "abc-biases.png"}
    first = out.with_suffix(".svg").read_bytes()
    assert write_text("abc7", "--style", "d01-000-01", "--out", out).returncode == 0
    assert out.with_suffix(".svg").read_bytes() == first
    for arguments, says in (
        ([""], "error: TEXT is empty"),
        (["a" * 30], "error: TEXT has 30 characters: at most 9"),
        (["abc", "--style", "d01-00-01"], "error: --style d01-00-01: no such line"),
        (["abc", "--bias", "-1"], "error: --bias=-1.0: must be a number 0 or more"),
    ):
        done = write_text(*arguments, "--out", out)
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


def test_a_prediction_network_writes_no_text(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    cfg = compose([*smoke_of["handwriting"], "norm=none", "task.network=prediction", "max_updates=2", "eval_every=2"])
    run(cfg)
    assert {path.name for path in (run_folder(cfg) / "samples").iterdir()} == {"samples.png", "samples.svg"}
    done = call("scripts/demo/write.py", run_folder(cfg), "abc", "--out", tmp_path / "x")
    assert done.returncode == 2 and "it cannot write one" in done.stderr
