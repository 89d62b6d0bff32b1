"""The norms beyond the paper, and all norms in convolutional layers: formulas in NumPy, gradients, refusals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lnexp.nn as ours
from lnexp.nn import NORMS, BatchNorm, DynamicTanh, GroupNorm, LayerNorm, Norm
from lnexp.nn.ops.recurrent import cpu
from lnexp.nn.ops.recurrent.eager import eager
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Weights
from lnexp.nn.ops.recurrent.reference import reference

KINDS = ["RNN", "LSTM", "GRU"]
OVER = ["map", "position", "instance"]


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with random parameters."""
    g = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) + 0.5)
    return module


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + 1


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def standardised(a: np.ndarray, axes: tuple[int, ...], centred: bool = True) -> np.ndarray:
    mu = a.mean(axes, keepdims=True) if centred else 0.0
    return (a - mu) / np.sqrt(((a - mu) ** 2).mean(axes, keepdims=True) + 1e-5)


def test_dynamic_tanh_is_its_formula() -> None:
    dense = randomised(DynamicTanh().dense(5))
    gain, bias, alpha = (p.detach().numpy() for p in (dense.weight, dense.bias, dense.alpha))
    a = draw(4, 5).numpy()
    np.testing.assert_allclose(dense(torch.tensor(a)).detach(), gain * np.tanh(alpha * a) + bias, atol=1e-12)
    maps = draw(2, 5, 3, 4).numpy()
    expected = gain[:, None, None] * np.tanh(alpha * maps) + bias[:, None, None]
    np.testing.assert_allclose(dense(torch.tensor(maps)).detach(), expected, atol=1e-12)
    assert DynamicTanh(alpha=0.8).dense(3).alpha.item() == pytest.approx(0.8)


def test_group_norm_is_its_formula() -> None:
    dense = randomised(GroupNorm(groups=3).dense(12))
    a = draw(4, 12).numpy()
    normal = standardised(a.reshape(4, 3, 4), (2,)).reshape(4, 12)
    expected = dense.weight.detach().numpy() * normal + dense.bias.detach().numpy()
    np.testing.assert_allclose(dense(torch.tensor(a)).detach(), expected, atol=1e-10)


def test_layer_norm_simple_is_layer_norm_at_gain_1_and_bias_0() -> None:
    simple = NORMS["ln_simple"]()
    assert not list(simple.dense(6).parameters()) and not list(simple.conv(6).parameters())
    assert torch.equal(simple.dense(6)(draw(3, 6).float()), LayerNorm().dense(6)(draw(3, 6).float()))
    for kind in KINDS:
        layers = []
        for norm in ("ln_simple", "ln"):
            torch.manual_seed(0)
            layers.append(getattr(ours, kind)(3, 4, norm=norm))
        x = torch.randn(5, 2, 3)
        torch.testing.assert_close(layers[0](x), layers[1](x))


@pytest.mark.parametrize(("units", "groups"), [
    (1024, 32), (512, 32), (1000, 25), (128, 8), (100, 5), (64, 4), (32, 2), (31, 1), (17, 1), (4, 1), (1, 1),
])  # fmt: skip
def test_groups_divide_the_units(units: int, groups: int) -> None:
    assert GroupNorm().groups_of(units) == groups


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norm\.groups=3: must divide the 8 units"):
        GroupNorm(groups=3).dense(8)
    with pytest.raises(ValueError, match=r"norm\.groups=8: leaves one unit of 8 to a group"):
        GroupNorm(groups=8).dense(8)
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"norm\.groups=3: must divide the 8 units"):
            getattr(ours, kind)(2, 8, norm=GroupNorm(groups=3))
        with pytest.raises(ValueError, match=r"hidden_size=8: must be more than norm\.groups=8 with norm=group"):
            getattr(ours, f"{kind}Cell")(2, 8, norm=GroupNorm(groups=8))
    for wrong in (0, -2, 1.5, "two"):
        with pytest.raises(ValueError, match=rf"norm\.groups={wrong}: must be a whole number"):
            GroupNorm(groups=wrong)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=rf"norm\.alpha={wrong}: must be above 0"):
            DynamicTanh(alpha=wrong)


AXES = {"map": (2, 3, 4), "position": (2,), "instance": (2, 3, 4)}  # of [B, groups, channels of a group, X, Y]


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("name", ["ln", "rms", "group"])
def test_feature_maps_are_normalised_by_formula(name: str, over: str) -> None:
    norm = GroupNorm(groups=2) if name == "group" else NORMS[name]()
    conv = randomised(norm.conv(4, over))
    groups = 4 if over == "instance" else 2 if name == "group" else 1
    a = draw(3, 4, 2, 5)
    normal = standardised(a.numpy().reshape(3, groups, -1, 2, 5), AXES[over], centred=name != "rms").reshape(3, 4, 2, 5)
    gain, bias = (p.detach().numpy()[:, None, None] for p in (conv.weight, conv.bias))
    for layout in (torch.contiguous_format, torch.channels_last):
        result = conv(a.to(memory_format=layout))
        np.testing.assert_allclose(result.detach(), gain * normal + bias, atol=1e-10)
    assert torch.autograd.gradcheck(conv, a.requires_grad_())
    in_float32 = conv.float()(a.float())
    np.testing.assert_allclose(in_float32.detach(), gain * normal + bias, atol=1e-4)


@pytest.mark.parametrize("unbiased_up_to", [0, 4])
def test_batch_norm_of_feature_maps_is_torchs_but_for_small_batches(unbiased_up_to: int) -> None:
    conv = randomised(BatchNorm(unbiased_up_to=unbiased_up_to).conv(3))
    a = draw(4, 3, 2, 5)
    values = a.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    var = values.var(1, ddof=1 if unbiased_up_to else 0)
    normal = (a.numpy() - values.mean(1)[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    gain, bias = (p.detach().numpy()[:, None, None] for p in (conv.weight, conv.bias))
    np.testing.assert_allclose(conv(a).detach(), gain * normal + bias, atol=1e-10)
    torch.testing.assert_close(conv.running_var, 0.9 + 0.1 * torch.tensor(values.var(1, ddof=1)))
    if not unbiased_up_to:
        theirs = nn.BatchNorm2d(3).double()
        theirs.load_state_dict({**theirs.state_dict(), "weight": conv.weight, "bias": conv.bias})
        torch.testing.assert_close(conv(a), theirs(a))
    with pytest.raises(ValueError, match=r"input.shape=\(4, 3\): must be \(batch, channels"):
        conv.eval()(draw(4, 3))


@pytest.mark.parametrize("name", list(NORMS))
def test_every_norm_has_a_form_for_feature_maps_and_draws_nothing(name: str) -> None:
    before, norm = torch.get_rng_state(), NORMS[name]()
    layer = norm.weight(nn.utils.skip_init(nn.Conv2d, 2, 4, 3))
    conv = norm.conv(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer(torch.randn(2, 2, 6, 6)).shape == (2, 4, 4, 4)
    assert conv(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)
    assert norm.shifts == (getattr(conv, "bias", None) is not None)


def test_weight_norm_of_a_convolution_starts_as_the_layer_it_reparametrises() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3)
    x = torch.randn(2, 2, 5, 5)
    expected = layer(x)
    torch.testing.assert_close(NORMS["wn"]().weight(layer)(x), expected)
    assert layer.parametrizations.weight.original0.shape == (4, 1, 1, 1)  # one length for each channel


def test_forms_that_feature_maps_do_not_have_are_refused() -> None:
    class Own(LayerNorm):
        name, label = "own", "my own"
        conv = Norm.conv

    with pytest.raises(ValueError, match=r"norm=own: class Own does not define conv"):
        Own().conv(4)
    with pytest.raises(ValueError, match="over=channel: allowed are map, position, instance"):
        LayerNorm().conv(4, "channel")
    with pytest.raises(ValueError, match="over=position: one channel of 4 in a group"):
        GroupNorm(groups=4).conv(4, "position")
    assert GroupNorm(groups=4).conv(4).groups == 4  # Wu and He: instance normalisation


CELLS = [
    Cell(kind, norm, placement=placement, nonlinearity=nonlinearity, unit_groups=2 if norm == "group" else 1)
    for kind, norm in product(GATES, ("group", "dyt"))
    for placement, nonlinearity in product(("all_gates", "per_gate", "bias_inside", "cell_only"), ("tanh", "relu"))
    if (placement != "cell_only" or kind == "lstm") and (nonlinearity == "tanh" or kind == "rnn")
]


def weights_of(cell: Cell, inputs: int, hidden: int) -> Weights:
    G, places, g = GATES[cell.kind] * hidden, cell.places(hidden), torch.Generator().manual_seed(2)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    shapes = {"weight_ih": (G, inputs), "weight_hh": (G, hidden), "bias_ih": (G,), "bias_hh": (G,)}
    shapes |= {f"gain_{place}": (size,) for place, size in places.items()} | cell.alphas(hidden)
    shapes |= {"bias_in": (G,)} if cell.bias_inside else {}
    shapes |= {"bias_c": (hidden,)} if cell.kind == "lstm" else {}
    return Weights(**{name: some(*shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"{c.kind}-{c.norm}-{c.placement}-{c.nonlinearity}")
def test_the_eager_cells_are_the_reference(cell: Cell) -> None:
    w, x = weights_of(cell, 3, 4), draw(5, 3, 3).requires_grad_()
    h, c = draw(3, 4, seed=3).requires_grad_(), draw(3, 4, seed=4).requires_grad_() if cell.kind == "lstm" else None
    given = [t for t in (x, h, c, *w) if t is not None]
    for lengths in (None, torch.tensor([2, 5, 3])):
        found = []
        for run in (reference, eager):
            result = run(Inputs(cell, w, x, h, c, lengths))
            outputs = [t for t in result[:3] if t is not None]
            found.append((outputs, torch.autograd.grad(sum(t.sin().sum() for t in outputs), given)))
        torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-8)
        in_float32 = Inputs(cell, w, x, h, c, lengths)
        in_float32 = in_float32.with_tensors(*(None if t is None else t.detach().float() for t in in_float32.tensors))
        torch.testing.assert_close(eager(in_float32).out_TBH, found[0][0][0].float(), rtol=1e-3, atol=1e-3)
    assert not cpu.fits(Inputs(cell, w, x, h, c))


@pytest.mark.parametrize(
    "cell", [c for c in CELLS if c.placement != "bias_inside"], ids=lambda c: f"{c.kind}-{c.norm}-{c.placement}"
)
def test_gradients_of_cells_in_float64(cell: Cell) -> None:
    w, x, h = weights_of(cell, 2, 4), draw(3, 2, 2).requires_grad_(), draw(2, 4, seed=3).requires_grad_()
    c = draw(2, 4, seed=4).requires_grad_() if cell.kind == "lstm" else None
    run = Inputs(cell, w, x, h, c, torch.tensor([3, 1]))
    held = [t is not None for t in run.tensors]

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        rest = iter(leaves)
        return tuple(t for t in eager(run.with_tensors(*(next(rest) if there else None for there in held)))[:3] if t is not None)

    assert torch.autograd.gradcheck(function, [t for t in run.tensors if t is not None], atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "dyt"])
def test_the_lstm_by_hand(norm: str) -> None:
    """Two steps of one case in NumPy: where the norm stands in equations (20)-(22)."""
    layer = randomised(ours.LSTM(3, 4, norm=GroupNorm(groups=2) if norm == "group" else norm))
    v = {name.replace("_l0", ""): p.detach().numpy() for name, p in layer.named_parameters()}
    x, h, c = draw(2, 1, 3), np.zeros(4), np.zeros(4)

    def normal(a: np.ndarray, place: str) -> np.ndarray:
        n = standardised(a.reshape(-1, 2), (1,)).ravel() if norm == "group" else np.tanh(v[f"alpha_{place}"] * a)
        return v[f"gain_{place}"] * n + v["bias_c" if place == "c" else f"bias_{place}"]

    out, _ = layer(x)
    for t in range(2):
        i, f, g, o = np.split(normal(v["weight_ih"] @ x[t, 0].numpy(), "ih") + normal(v["weight_hh"] @ h, "hh"), 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(normal(c, "c"))
        np.testing.assert_allclose(out[t, 0].detach(), h, atol=1e-10)


def test_dynamic_tanh_has_an_alpha_wherever_layer_norm_has_a_mean() -> None:
    shapes = {
        (kind, placement): {
            n: p.numel() for n, p in getattr(ours, kind)(3, 4, norm="dyt", placement=placement).named_parameters() if "alpha" in n
        }
        for kind, placement in [
            ("LSTM", "all_gates"),
            ("LSTM", "per_gate"),
            ("LSTM", "cell_only"),
            ("GRU", "all_gates"),
            ("RNN", "all_gates"),
        ]
    }
    assert shapes["LSTM", "all_gates"] == {"alpha_ih_l0": 1, "alpha_hh_l0": 1, "alpha_c_l0": 1}
    assert shapes["LSTM", "per_gate"] == {"alpha_ih_l0": 4, "alpha_hh_l0": 4, "alpha_c_l0": 1}
    assert shapes["LSTM", "cell_only"] == {"alpha_c_l0": 1}
    assert shapes["GRU", "all_gates"] == {"alpha_ih_l0": 2, "alpha_hh_l0": 2}
    assert shapes["RNN", "all_gates"] == {"alpha_hh_l0": 1}
    assert (ours.LSTM(3, 4, norm=DynamicTanh(alpha=0.25)).alpha_c_l0 == 0.25).all()
