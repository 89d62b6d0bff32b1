"""The convolutional net: its layers, what norms take together, units at the border, and mistakes."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lnexp.config import compose, make_norm, make_task
from lnexp.errors import UserError
from lnexp.evidence import plotting
from lnexp.nn import NORMS, NormError
from lnexp.seeding import seed_everything
from lnexp.tasks.base import build_model
from lnexp.tasks.convnet import border
from lnexp.tasks.convnet.model import ConvNet, sides
from tests.conftest import script


def made(smoke_of: dict[str, list[str]], *more: str, norm: str = "ln"):
    cfg = compose([*smoke_of["convnet"], f"norm={norm}", *more])
    task = make_task(cfg, "cpu")
    seed_everything(0, "init")
    return task, build_model(task, make_norm(cfg))


def test_the_net_by_hand(smoke_of: dict[str, list[str]]) -> None:
    """Standardised pixels, convolutions with zeros around, a norm and a ReLU each, the mean over positions, a linear layer."""
    task, model = made(smoke_of, norm="rms")
    x = task.batches("train", 5)[0]["x_BYXC"]
    train = task.data["train"]["x_BYXC"].double()
    a = ((x.double() - train.mean()) / train.std()).permute(0, 3, 1, 2)
    for layer, stride in zip(model.layers, (2, 2), strict=True):
        a = F.conv2d(a, layer[0].weight.double(), layer[0].bias, stride, 1)
        a = a / (a.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        a = (layer[1].weight.double()[:, None, None] * a + layer[1].bias.double()[:, None, None]).clamp(min=0)
    expected = a.mean((2, 3)) @ model.output.weight.double().t() + model.output.bias.double()
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)
    assert a.shape[2:] == (7, 7)
    assert sides(28, (1, 2, 1, 2, 1, 2)) == [28, 14, 14, 7, 7, 4]


def test_weights_start_at_hes_standard_deviation_or_a_factor_of_it() -> None:
    for scale in (1.0, 0.25):
        torch.manual_seed(0)
        options = {"mean_C": torch.zeros(3), "std_C": torch.ones(3), "classes": 4, "channels": (64, 64), "strides": (1, 1)}
        net = ConvNet(NORMS["none"](), **options, statistics="map", init_scale=scale)
        for layer, size in zip(net.layers, (3, 64), strict=True):
            assert layer[0].weight.std().item() == pytest.approx(scale * math.sqrt(2 / (9 * size)), rel=0.06)
            assert (layer[0].bias == 0).all()


def test_the_forms_of_layer_norm_are_different_nets_with_equal_weights(smoke_of: dict[str, list[str]]) -> None:
    logits, states = {}, {}
    for form in ("map", "position", "instance"):
        task, model = made(smoke_of, f"task.statistics={form}")
        logits[form], states[form] = model(task.batches("test", 8)[0]["x_BYXC"]), model.state_dict()
        assert {layer[1].over for layer in model.layers} == {form}
        assert all(torch.equal(value, states["map"][name]) for name, value in states[form].items())
    for one, other in (("map", "position"), ("map", "instance"), ("position", "instance")):
        assert (logits[one] - logits[other]).abs().max() > 1e-3
    with pytest.raises(UserError, match=r"task\.strides=\[4, 7\]: leaves one position of 28, which instance statistics map to 0"):
        made(smoke_of, "task.statistics=instance", "task.strides=[4,7]")


def test_images_are_mirrored_in_training_only(smoke_of: dict[str, list[str]]) -> None:
    task, _ = made(smoke_of, "task.flip=true")
    seen = []

    def model(x_BYXC: torch.Tensor) -> torch.Tensor:
        seen.append(x_BYXC)
        return torch.zeros(len(x_BYXC), 10, requires_grad=True)

    batch = task.batches("train", 64, seed=0)[0]
    net = torch.nn.Module()
    net.forward = model  # type: ignore[method-assign]
    torch.manual_seed(0)
    task.loss(net.train(), batch)
    task.loss(net.eval(), batch)
    with torch.no_grad():
        task.loss(net.train(), batch)
    same = (seen[0] == batch["x_BYXC"]).flatten(1).all(1)
    mirrored = (seen[0] == batch["x_BYXC"].flip(2)).flatten(1).all(1)
    assert (same | mirrored).all() and 10 < int(mirrored.sum()) < 54
    assert torch.equal(seen[1], batch["x_BYXC"]) and torch.equal(seen[2], batch["x_BYXC"])


def test_distances_to_the_border() -> None:
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert border.distances(4, 4).tolist() == expected
    assert border.distances(3, 5).tolist() == [[0] * 5, [0, 1, 1, 1, 0], [0] * 5]
    assert border.distances(1, 1).tolist() == [[0]]


def test_statistics_at_the_border_by_hand(smoke_of: dict[str, list[str]]) -> None:
    task, model = made(smoke_of)
    measured = task.describe_border(model)
    x = task.data["valid"]["x_BYXC"][:50]
    layers = [a.detach().double().numpy() for a in model.summed_inputs(x)]
    ratios = []
    for number, a in enumerate(layers, 1):
        edge = np.ones(a.shape[2:], bool)
        edge[1:-1, 1:-1] = False
        ring, inside = a[:, :, edge], a[:, :, ~edge]
        assert measured[f"on_layer{number}_edge0"] == pytest.approx((ring > 0).mean())
        assert measured[f"std_layer{number}_edge0"] == pytest.approx(ring.std())
        ratios.append(((ring > 0).mean() / (inside > 0).mean(), ring.std() / inside.std()))
    assert measured["on_ratio"] == pytest.approx(np.mean([r[0] for r in ratios]))
    assert measured["spread_ratio"] == pytest.approx(np.mean([r[1] for r in ratios]))
    assert max(int(name.split("edge")[1]) for name in measured if name.startswith("on_layer1")) == 6  # of 14 x 14


@pytest.mark.parametrize(("override", "says"), [
    ("task.channels=[]", r"task\.channels=\[\]: must hold one number or more"),
    ("task.strides=[2]", r"task\.strides=\[2\]: must hold 2 numbers, as task\.channels does"),
    ("task.strides=[2,0]", r"task\.strides=0: must be a whole number"),
    ("task.statistics=channel", r"task\.statistics=channel: allowed are instance, map, position"),
    ("task.init_scale=0", r"task\.init_scale=0: must be a number above 0"),
    ("task.eval_examples=0", r"task\.eval_examples=0: must be a whole number"),
])  # fmt: skip
def test_mistakes_are_one_line(override: str, says: str, smoke_of: dict[str, list[str]]) -> None:
    with pytest.raises(UserError, match=says):
        made(smoke_of, override)


def test_groups_that_do_not_divide_the_channels_are_refused(smoke_of: dict[str, list[str]]) -> None:
    with pytest.raises(UserError, match=r"norm\.groups=3: must divide the 4 units or channels"):
        made(smoke_of, "norm.groups=3", norm="group")
    with pytest.raises(NormError, match="over=position"):
        NORMS["group"](groups=4).conv(4, "position")


def test_figures_are_drawn_from_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("Agg")
    rows = []
    for norm in ("none", "bn", "ln"):
        for seed in range(2):
            of = {"id": f"{norm}{seed}", "norm.name": norm, "seed": seed, "scale": "desk", "data": "tiny", "optimizer.lr": 0.001}
            for step in (10, 20, 30):
                for metric in ("train/nll", "test/error"):
                    rows += [
                        of | {"step": step, "metric": metric, "value": 1 / step, "task.statistics": f}
                        for f in ("map", "position", "instance")
                    ]
            for layer, edges in ((1, 3), (2, 1)):
                rows += [
                    of | {"step": s, "metric": f"border/on_layer{layer}_edge{d}", "value": s / 100 + d}
                    for s in (0, 30)
                    for d in range(edges)
                ]
    frame = pd.DataFrame(rows)
    figures = script("figures/convnet.py")
    drawn = figures.draw(frame[frame["task.statistics"] != "instance"].drop_duplicates(["id", "step", "metric"]))
    assert [ax.get_ylabel() for ax in drawn.axes] == ["training NLL (nats)", "test error"]
    drawn = figures.draw_border(frame, "on")
    first = drawn.axes[0].get_lines()[0]
    assert first.get_ydata().tolist() == pytest.approx([0.3, 1.3, 2.3])  # the last step's, not the start's
    assert first.get_color() == plotting.colour("none")
    assert [ax.get_title() for ax in figures.draw_statistics(frame).axes] == list(figures.FORMS.values())
    mpl.pyplot.close("all")


def test_a_folder_of_images_is_learned(tmp_path: Path) -> None:
    """Classes that differ in their colour, as files, from the command's configuration to the measures."""
    from PIL import Image

    random = np.random.default_rng(0)
    for c, name in enumerate(("blue", "green", "red")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for k in range(60):
            pixels = random.integers(0, 120, (12, 12, 3))
            pixels[..., 2 - c] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "in" / name / f"{k}.png")
    given = [
        "task=convnet",
        "data=image_folder",
        "data.set=colours",
        f"data.root={tmp_path}/in",
        f"data_dir={tmp_path}",
        "scale=smoke",
    ]
    cfg = compose([*given, "norm=ln"])
    task = make_task(cfg, "cpu")
    seed_everything(0, "init")
    model = task.build(make_norm(cfg))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(6):
        for batch in task.batches("train", 32, seed=0, epoch=epoch):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
    assert task.evaluate(model.eval(), "test")["error"] < 0.1
