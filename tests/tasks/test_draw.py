"""DRAW as a task: the parts of its bound by hand, its starts, what it measures and what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import PIL.Image
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from lnexp.config import compose, make_norm, make_task
from lnexp.errors import UserError
from lnexp.nn import NORMS
from lnexp.seeding import seed_everything
from lnexp.tasks.draw.model import WIDE, DrawNet
from lnexp.tasks.draw.task import DRAW
from lnexp.training.trainer import evaluate


def task_and_model(smoke_of: dict[str, list[str]], norm: str = "ln", *overrides: str) -> tuple[DRAW, DrawNet]:
    cfg = compose([*smoke_of["draw"], f"norm={norm}", *overrides])
    task = make_task(cfg, "cpu")
    assert isinstance(task, DRAW)
    seed_everything(0, "init")
    return task, task.build(make_norm(cfg)).eval()


def test_the_bound_by_hand(smoke_of: dict[str, list[str]]) -> None:
    """-log p(x | z) under Bernoulli pixels, and KL(q || N(0, I)), by torch's distributions."""
    task, model = task_and_model(smoke_of)
    x_BD = task.data["test"]["x_BD"][:7].float()
    noise_TBZ = model.noise(7)
    canvas_BD, posterior_TBP = model(x_BD, noise_TBZ)
    mean_TBZ, log_sigma_TBZ = posterior_TBP.chunk(2, dim=2)
    reconstruction_B, kl_TB = model.bound(x_BD, noise_TBZ)
    torch.testing.assert_close(reconstruction_B, -Bernoulli(logits=canvas_BD).log_prob(x_BD).sum(1))
    q = Normal(mean_TBZ, log_sigma_TBZ.exp())
    torch.testing.assert_close(kl_TB, kl_divergence(q, Normal(0.0, 1.0)).sum(2), rtol=1e-4, atol=1e-4)
    z_TBZ = q.mean + q.stddev * noise_TBZ
    log_weight_B = -reconstruction_B + (Normal(0.0, 1.0).log_prob(z_TBZ) - q.log_prob(z_TBZ)).sum((0, 2))
    torch.testing.assert_close(model.log_weight(x_BD, noise_TBZ), log_weight_B, rtol=1e-4, atol=1e-3)


def test_the_loss_is_the_mean_bound_and_has_its_parts(smoke_of: dict[str, list[str]]) -> None:
    task, model = task_and_model(smoke_of)
    batch = task.batches("train", 16, seed=0)[0]
    torch.manual_seed(5)
    loss, parts = task.loss(model, batch)
    torch.manual_seed(5)
    reconstruction_B, kl_TB = model.bound(batch["x_BD"].float(), model.noise(16))
    assert set(parts) == {"reconstruction", "kl"}
    assert loss.item() == pytest.approx((reconstruction_B + kl_TB.sum(0)).mean().item(), rel=1e-6)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-6)


def test_what_is_measured(smoke_of: dict[str, list[str]]) -> None:
    """bound = reconstruction + kl; the KL of the glimpses adds up; more samples give a bound that is tighter."""
    task, model = task_and_model(smoke_of, "ln", "task.importance_samples=20")
    with torch.no_grad():
        model.posterior.bias[6:] += 0.3  # a posterior that fits badly has something to gain
    torch.manual_seed(0)
    found = task.evaluate(model, "test")
    assert found["bound"] == pytest.approx(found["reconstruction"] + found["kl"])
    torch.manual_seed(0)
    best = task.evaluate_best(model)
    assert best["bound"] == pytest.approx(found["bound"])
    assert sum(value for name, value in best.items() if re.fullmatch(r"kl_\d+", name)) == pytest.approx(found["kl"])
    assert [name for name in best if name.startswith("kl_")] == ["kl_1", "kl_2", "kl_3"]
    one, twenty = task.weighted_bound(model, 1), best["weighted_bound"]
    assert one == pytest.approx(found["bound"], rel=0.02)  # of the same expectation
    assert twenty < one
    assert "weighted_bound" not in task_and_model(smoke_of, "ln", "task.importance_samples=null")[0].evaluate_best(model)


def test_evaluations_draw_the_same_noise_under_every_norm(
    smoke_of: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list] = {}
    noise = DrawNet.noise
    for name in NORMS:
        task, model = task_and_model(smoke_of, name)
        seen = drawn.setdefault(name, [])

        def recorded(self: DrawNet, cases: int, seen: list = seen) -> torch.Tensor:
            if not self.training:
                seen.append(noise(self, cases))
                return seen[-1]
            return noise(self, cases)

        monkeypatch.setattr(DrawNet, "noise", recorded)
        evaluate(task, NORMS[name](), model, 0, 10, "during")
    assert len(drawn["none"]) == 2  # valid and test, 100 images each
    for seen in drawn.values():
        for a, b in zip(seen, drawn["none"], strict=True):
            assert torch.equal(a, b)


def test_eval_examples_are_spread_over_the_split(smoke_of: dict[str, list[str]]) -> None:
    whole, _ = task_and_model(smoke_of, "ln", "task.eval_examples=null")
    some, _ = task_and_model(smoke_of, "ln", "task.eval_examples=25", "task.train_examples=40")
    assert torch.equal(some.data["test"]["x_BD"], whole.data["test"]["x_BD"][::4])
    assert torch.equal(some.data["train"]["x_BD"], whole.data["train"]["x_BD"][:40])


@pytest.mark.parametrize("norm", ["none", "wn", "ln"])
def test_starts(norm: str, smoke_of: dict[str, list[str]]) -> None:
    """wide is uniform and five biases; released is N(0, 0.01) and zeros."""
    models = {
        start: task_and_model(smoke_of, norm, f"task.start={start}", "task.hidden_size=64")[1] for start in ("wide", "uniform")
    }
    difference_A = (models["wide"].attention.bias - models["uniform"].attention.bias).detach()
    expected_A = torch.zeros(35)
    expected_A[[3, 33]], expected_A[32], expected_A[4] = WIDE["log_sigma2"], WIDE["read_log_delta"], WIDE["write_log_gamma"]
    torch.testing.assert_close(difference_A, expected_A, rtol=0, atol=1e-6)
    released = task_and_model(smoke_of, norm, "task.start=released", "task.hidden_size=64")[1]
    matrices = [m.weight for m in (released.posterior, released.attention)]
    matrices += [getattr(cell, name) for cell in (released.encoder, released.decoder) for name in ("weight_ih", "weight_hh")]
    for matrix in matrices:
        assert matrix.std().item() == pytest.approx(0.01, rel=0.1)
    for name, parameter in released.named_parameters():
        assert "bias" not in name or not parameter.any(), name


def test_weight_normalisation_is_on_all_six_matrices(smoke_of: dict[str, list[str]]) -> None:
    _, model = task_and_model(smoke_of, "wn")
    assert sum(name.endswith("original0") for name, _ in model.named_parameters()) == 6


def test_batch_normalisation_has_statistics_of_every_glimpse(smoke_of: dict[str, list[str]]) -> None:
    """In training those of the batch, which are recorded; in evaluation the population's, whatever else is in the batch."""
    task, model = task_and_model(smoke_of, "bn")
    x_BD = task.data["test"]["x_BD"][:6].float()
    noise_TBZ = model.noise(6)
    model.train()
    model(x_BD, noise_TBZ)
    for cell in (model.encoder, model.decoder):
        assert cell.batch_steps is not None
        mean_TH = cell.batch_steps.get_buffer("mean_c")
        assert mean_TH.shape == (3, 24) and mean_TH.ne(0).any(1).all()
    model.eval()
    whole, part = model.bound(x_BD, noise_TBZ), model.bound(x_BD[:2], noise_TBZ[:, :2])
    torch.testing.assert_close(whole.reconstruction_B[:2], part.reconstruction_B)


def test_pictures(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    """Sheets: an image and three canvases in each of 16 rows; animations: a frame for each glimpse."""
    task, model = task_and_model(smoke_of)
    with torch.no_grad():
        task.samples(model, tmp_path / "samples")
    step = 2 * 28 + 2
    for name, columns in (("reconstructions", 4), ("generated", 3)):
        with PIL.Image.open(tmp_path / "samples" / f"{name}.png") as sheet:
            assert sheet.size == (columns * step + 2, 16 * step + 2)
        with PIL.Image.open(tmp_path / "samples" / f"{name}.gif") as animation:
            assert animation.n_frames == 3
    with PIL.Image.open(tmp_path / "samples" / "reconstructions.png") as sheet:
        shown = torch.linspace(0, 99, 16).round().long()
        ink = torch.tensor(list(sheet.convert("L").crop((2, 2, 58, 58)).resize((28, 28), 0).getdata()))
        assert torch.equal(ink == 0, task.data["test"]["x_BD"][shown[0]].bool())
    assert (tmp_path / "samples" / "kl.png").stat().st_size > 1000


def test_windows_are_drawn_where_the_filters_are() -> None:
    from lnexp.tasks.draw.pictures import WRITE, outline, shade

    image = shade(torch.zeros(784), 28, 4)
    outline(image, torch.tensor([0.0, -0.5, -2.0, -20.0, 0.0]), 5, 28, WRITE)  # centre y 14, x 7; half a side e^-2 13.5 = 1.83
    drawn = torch.tensor(list(image.getdata()))[:, 2].view(112, 112).ne(255).nonzero()
    low, high = drawn.min(0).values.tolist(), drawn.max(0).values.tolist()
    assert low == pytest.approx([(14.5 - 1.83) * 4, (7.5 - 1.83) * 4], abs=1)
    assert high == pytest.approx([(14.5 + 1.83) * 4, (7.5 + 1.83) * 4], abs=1)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.glimpses=0", "task.glimpses=0: must be a whole number, 1 or more"),
        ("task.hidden_size=1", "task.hidden_size=1: must be a whole number, 2 or more"),
        ("task.write_size=29", "task.write_size=29: must be 28 or less"),
        ("task.read_size=1", "task.read_size=1: must be a whole number, 2 or more"),
        ("task.start=zeros", "task.start=zeros: allowed are released, uniform, wide"),
        ("task.placement=gates", "task.placement=gates: allowed are"),
        ("task.importance_samples=0", "task.importance_samples=0: must be a whole number, 1 or more, or null"),
    ],
)
def test_wrong_values_are_named(override: str, said: str, smoke_of: dict[str, list[str]]) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        make_task(compose([*smoke_of["draw"], override]), "cpu")


def test_a_model_of_other_windows_and_placements_trains(smoke_of: dict[str, list[str]]) -> None:
    task, model = task_and_model(smoke_of, "ln", "task.read_size=3", "task.write_size=4", "task.placement=bias_inside")
    loss, _ = task.loss(model, task.batches("train", 16, seed=0)[0])
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert isinstance(model.posterior, nn.Linear)
