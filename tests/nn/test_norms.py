"""Each norm equals its formula in float64, and Table 1 of the paper holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lnexp.nn import GRU, LSTM, NORMS, RNN, BatchNorm, LayerNorm, NoNorm, Norm, RMSNorm, WeightNorm
from lnexp.nn.ops.recurrent import cpu, eager, reference
from lnexp.nn.ops.recurrent.interface import Cell, Inputs

sizes = st.integers(2, 9)
seeds = st.integers(0, 2**31)


def sums(cases: int, units: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(cases, units, generator=g, dtype=torch.float64) * 3 + 1


def affine(layer: nn.Module, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give a layer random gains and biases, and return them."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=g))
        layer.bias.copy_(torch.randn(layer.bias.shape, generator=g))
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, seeds)
def test_layer_norm_is_equations_3_and_4(cases: int, units: int, seed: int) -> None:
    layer = LayerNorm(eps=1e-5).dense(units).double()
    gain, bias = affine(layer, seed)
    a = sums(cases, units, seed).numpy()
    mu = a.mean(1, keepdims=True)
    sigma = np.sqrt(((a - mu) ** 2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(torch.tensor(a)).detach(), gain * (a - mu) / sigma + bias, rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, seeds)
def test_rms_norm_is_its_formula(cases: int, units: int, seed: int) -> None:
    layer = RMSNorm(eps=1e-5).dense(units).double()
    gain, bias = affine(layer, seed)
    a = sums(cases, units, seed).numpy()
    expected = gain * a / np.sqrt((a**2).mean(1, keepdims=True) + 1e-5) + bias
    np.testing.assert_allclose(layer(torch.tensor(a)).detach(), expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, seeds, st.booleans())
def test_batch_norm_uses_the_unbiased_variance_in_small_batches_only(cases: int, units: int, seed: int, small: bool) -> None:
    layer = BatchNorm(unbiased_up_to=cases if small else cases - 1).dense(units).double()
    gain, bias = affine(layer, seed)
    a = sums(cases, units, seed).numpy()
    expected = gain * (a - a.mean(0)) / np.sqrt(a.var(0, ddof=int(small)) + 1e-5) + bias
    np.testing.assert_allclose(layer(torch.tensor(a)).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unbiased_up_to", [0, 4])
def test_batch_norm_evaluates_with_population_statistics(unbiased_up_to: int) -> None:
    """After calibration: the mean over batches of their means and unbiased variances (Ioffe and Szegedy, algorithm 2)."""
    norm = BatchNorm(unbiased_up_to=unbiased_up_to)
    model = nn.Sequential(norm.dense(3)).double()
    model(sums(4, 3, 99))  # what training has left behind must not count
    batches = [sums(4, 3, seed) for seed in range(5)]
    norm.calibrate(model, model, batches)
    mean = torch.stack([b.mean(0) for b in batches]).mean(0)
    var = torch.stack([b.var(0) for b in batches]).mean(0)
    model.eval()
    a = sums(4, 3, 7)
    torch.testing.assert_close(model(a), (a - mean) / (var + 1e-5).sqrt())
    assert model[0].momentum == norm.momentum


def test_running_statistics_are_left_alone_by_calibration() -> None:
    norm = BatchNorm(statistics="running")
    model = nn.Sequential(norm.dense(3))
    model(torch.randn(4, 3))
    before = model[0].running_mean.clone()
    norm.calibrate(model, model, [torch.randn(4, 3)])
    assert torch.equal(model[0].running_mean, before)


def test_weight_norm_starts_as_the_layer_it_reparametrises() -> None:
    layer = nn.Linear(5, 4).double()
    a, weight = layer(sums(3, 5, 0)), layer.weight.detach().clone()
    torch.testing.assert_close(WeightNorm().weight(layer)(sums(3, 5, 0)), a)
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(2.0)  # g: the length of every unit's weights
    torch.testing.assert_close(layer.weight, 2 * weight / weight.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("name", ["ln", "rms", "bn", "ln_simple", "dyt", "group"])
def test_gradients_in_float64(name: str) -> None:
    layer = NORMS[name]().dense(5).double()
    layer.train()
    assert torch.autograd.gradcheck(layer, sums(4, 5, 1).requires_grad_())


@pytest.mark.parametrize("name", ["ln", "rms", "ln_simple", "dyt", "group"])
def test_one_case_alone(name: str) -> None:
    assert NORMS[name]().dense(5)(torch.randn(1, 5)).isfinite().all()


@pytest.mark.parametrize("name", list(NORMS))
def test_gains_start_as_asked_and_nothing_random_is_drawn(name: str) -> None:
    before = torch.get_rng_state()
    norm = NORMS[name]() if name == "ln_simple" else NORMS[name](gain=0.1)
    layer = norm.dense(6)
    norm.weight(nn.utils.skip_init(nn.Linear, 2, 2))
    assert torch.equal(torch.get_rng_state(), before)
    if norm.shifts:
        assert (layer.weight == 0.1).all()
        assert (layer.bias == 0).all()


# Table 1: is the output left unchanged? W' = s W, W' = W + 1 c^T, one row of W scaled, X' = s X, X' = X + c, one case scaled.
TABLE_1 = {
    "bn": (True, False, True, True, True, False),
    "wn": (True, False, True, False, False, False),
    "ln": (True, True, False, True, False, True),
}
CHANGES = ("weights rescaled", "weights recentred", "one unit rescaled", "data rescaled", "data recentred", "one case rescaled")


def output(name: str, w: Tensor, x: Tensor) -> Tensor:
    """The normalised sums, with an eps that vanishes, from the package's own modules."""
    norm = NORMS[name](eps=1e-30)
    layer = nn.utils.skip_init(nn.Linear, x.shape[1], w.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(w)
    layer = norm.weight(layer)
    if name == "wn":  # the paper's gain is a parameter of its own: it does not follow the weights
        with torch.no_grad():
            layer.parametrizations.weight.original0.fill_(1.0)
    return norm.dense(w.shape[0]).double()(layer(x))


@pytest.mark.parametrize("name", list(TABLE_1))
def test_table_1(name: str) -> None:
    w, x, c = sums(6, 5, 1), sums(8, 5, 2), sums(1, 5, 3)
    unit, case = torch.ones(6, 1, dtype=torch.float64), torch.ones(8, 1, dtype=torch.float64)
    unit[2], case[3] = 2.5, 2.5
    changed = [(2.5 * w, x), (w + c, x), (unit * w, x), (w, 2.5 * x), (w, x + c), (w, case * x)]
    before = output(name, w, x)
    for (w_, x_), invariant, change in zip(changed, TABLE_1[name], CHANGES, strict=True):
        moved = (output(name, w_, x_) - before).abs().max().item()
        assert moved < 1e-9 if invariant else moved > 1e-2, (change, moved)


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"norm\.eps=-1.0"):
        NoNorm(eps=-1.0)
    with pytest.raises(ValueError, match=r"norm\.statistics=batch.*population, running"):
        BatchNorm(statistics="batch")
    with pytest.raises(ValueError, match="batch_size=1"):
        BatchNorm().check_batch(1)


def test_every_norm_has_a_name_and_a_label_of_its_own() -> None:
    assert list(NORMS) == ["none", "bn", "ln", "wn", "rms", "bn_everywhere", "ln_simple", "dyt", "group"]
    assert len({norm.label for norm in NORMS.values()}) == len(NORMS)
    with pytest.raises(TypeError, match="Silent: a norm with a name of its own needs a label"):
        type("Silent", (LayerNorm,), {"name": "silent"})


def test_the_base_class_is_no_norm() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Norm()  # type: ignore[abstract]


class Halving(Norm):
    """A norm that says nothing of recurrent cells."""

    name, label = "halving", "half"

    def dense(self, n: int) -> nn.Module:
        return nn.Identity()


class Renamed(LayerNorm):
    name, label = "renamed", "layer norm, renamed"


class Misspelt(LayerNorm):
    name, label, cells = "misspelt", "layer norm, misspelt", "layer"


class Own(LayerNorm):
    name, label, cells = "own", "layer norm, own", "ln"


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_recurrent_layers_refuse_what_they_do_not_know(kind: type) -> None:
    for norm in (Halving(), Renamed(), Misspelt()):
        with pytest.raises(ValueError, match=f"norm={norm.name}: class {type(norm).__name__} .*'none', 'bn', 'ln', 'rms'"):
            kind(3, 4, norm=norm)
    x = torch.randn(5, 2, 3)
    layers = []
    for norm in (Own(), "ln"):
        torch.manual_seed(0)
        layers.append(kind(3, 4, norm=norm))
    torch.testing.assert_close(layers[0](x), layers[1](x))


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("implementation", ["reference", "eager", "kernels"])
def test_every_implementation_refuses_what_it_does_not_know(kind: type, implementation: str) -> None:
    """A norm that is added to the cells and forgotten in an implementation."""
    layer = kind(3, 4, norm="ln")
    object.__setattr__(layer.cell, "norm", "quantile")
    x, h = torch.randn(5, 2, 3), torch.zeros(2, 4)
    inputs = Inputs(layer.cell, layer.weights("l0"), x, h, h if kind is LSTM else None)
    run = {"reference": reference.reference, "eager": eager.eager, "kernels": cpu.fused}[implementation]
    with pytest.raises(ValueError, match=r"norm='?quantile"):
        run(inputs)
    with pytest.raises(ValueError, match="norm=quantile"):
        layer(x)


@pytest.mark.parametrize(("given", "message"), [
    ({"kind": "mlp"}, "kind=mlp: allowed are lstm, gru, rnn"),
    ({"norm": "quantile"}, "norm=quantile: allowed are none, bn, ln, rms, group, dyt"),
    ({"placement": "cells"}, "placement=cells: allowed are all_gates, per_gate, bias_inside"),
    ({"nonlinearity": "elu"}, "nonlinearity=elu: allowed are tanh, relu"),
])  # fmt: skip
def test_a_cell_knows_all_that_it_may_be(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cell(**{"kind": "gru", "norm": "ln", **given})


@pytest.mark.parametrize("name", ["ln", "rms", "bn", "dyt", "group"])
@pytest.mark.parametrize(("affine_", "bias"), [(False, True), (True, False)])
def test_gain_and_bias_may_be_absent(name: str, affine_: bool, bias: bool) -> None:
    norm = NORMS[name](affine=affine_, bias=bias)
    assert not norm.shifts  # so that the linear layer in front keeps its bias
    a = sums(6, 5, 0)
    for dense in (norm.dense(5), NORMS[name](affine=affine_, bias=bias).term(5)):
        assert {n for n, _ in dense.named_parameters()} - {"alpha"} <= ({"weight"} if affine_ else set())
    torch.testing.assert_close(norm.dense(5).double()(a), NORMS[name]().dense(5).double()(a))
    for kind in (LSTM, GRU, RNN):
        layers = []
        for one in (norm, NORMS[name]()):
            torch.manual_seed(0)
            layers.append(kind(3, 4, 2, norm=one, max_t=5))
        names = {n.split("_l")[0] for n, _ in layers[0].named_parameters() if not n.startswith("alpha")}
        assert names == {"weight_ih", "weight_hh"} | ({n for n in names if n.startswith("gain")} if affine_ else set())
        assert torch.equal(layers[0].weight_ih_l1, layers[1].weight_ih_l1)  # the same draws
        if affine_:
            x = torch.randn(5, 3, 3)
            torch.testing.assert_close(layers[0](x), layers[1](x))
    draw = LSTM(3, 4, norm=NORMS[name](affine=False), placement="cell_only", max_t=5)
    assert {n for n, _ in draw.named_parameters()} - {"alpha_c_l0"} == {
        f"{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("placement", ["all_gates", "per_gate", "cell_only"])
def test_one_unit_under_layer_norm_is_refused(kind: type, placement: str) -> None:
    if placement == "cell_only" and kind is not LSTM:
        return
    with pytest.raises(ValueError, match="hidden_size=1: must be 2 or more with norm=ln"):
        kind(3, 1, norm="ln", placement=placement)
    kind(3, 1, norm="rms", placement=placement)(torch.randn(2, 2, 3))


class Counted(nn.Module):
    """A user's own layer with population statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def start_recalibration(self) -> None:
        self.calls.append("start")

    def finish_recalibration(self) -> None:
        self.calls.append("finish")

    def forward(self, a: Tensor) -> Tensor:
        self.calls.append("training" if self.training and not torch.is_grad_enabled() else "wrong mode")
        return a


def test_calibration_finds_layers_by_their_methods() -> None:
    model = nn.Sequential(Counted(), BatchNorm().dense(3))
    BatchNorm().calibrate(model, model, [sums(4, 3, n).float() for n in range(2)])
    assert model[0].calls == ["start", "training", "training", "finish"]


def test_a_batch_that_fails_leaves_modes_and_momentum_as_they_were() -> None:
    norm = BatchNorm(momentum=0.25)
    model = nn.Sequential(norm.dense(3), nn.Dropout(), LSTM(3, 4, norm=norm, max_t=2))
    model.eval()
    model[1].train()

    def forward(x: Tensor) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        norm.calibrate(model, forward, [torch.zeros(2, 3)])
    assert [m.training for m in model] == [False, True, False]
    assert model[0].momentum == model[2].batch_steps["l0"].momentum == 0.25


def test_statistics_of_parts_are_those_of_the_parts_alone():
    """Values and gradients, biased and unbiased; in evaluation, and for its statistics, batches are whole."""
    for unbiased_up_to in (0, 4):
        norm = NORMS["bn"](unbiased_up_to=unbiased_up_to)
        norm.split(3)
        layer = norm.dense(5)
        a_BN = torch.randn(12, 5, requires_grad=True)
        out_BN, apart_BN = layer(a_BN), torch.empty(12, 5)
        for r in reversed(range(3)):
            whole = NORMS["bn"](unbiased_up_to=unbiased_up_to).dense(5)
            apart_BN[r::3] = whole(a_BN[r::3])  # at the end whole is the first part's, as the running averages are
        torch.testing.assert_close(out_BN, apart_BN)
        torch.testing.assert_close(layer.running_mean, whole.running_mean)
        torch.testing.assert_close(layer.running_var, whole.running_var)
        weights_BN = torch.randn(12, 5)
        for one, other in zip(*(torch.autograd.grad((t * weights_BN).sum(), a_BN) for t in (out_BN, apart_BN)), strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(layer.eval()(a_BN), whole.eval()(a_BN))
        for module in (layer.train(), whole.train()):
            module.start_recalibration()
        torch.testing.assert_close(layer(a_BN), whole(a_BN))


def test_statistics_of_parts_are_refused_where_they_cannot_be():
    norm = NORMS["bn"]()
    norm.split(4)
    with pytest.raises(ValueError, match="a batch of 6 cases: must be a multiple of the 4 parts"):
        norm.dense(3)(torch.randn(6, 3))
    with pytest.raises(ValueError, match="batch_size=4: must be a multiple of 4 parts of 2 cases or more each"):
        norm.check_batch(4)
    with pytest.raises(ValueError, match="norm=bn: recurrent layers have no statistics of 4 parts of a batch"):
        LSTM(3, 4, norm=norm, max_t=2)
    with pytest.raises(ValueError, match="norm=bn: recurrent layers have no synchronised statistics"):
        LSTM(3, 4, norm=NORMS["bn"](synchronised=True), max_t=2)
    with pytest.raises(ValueError, match="parts=0: must be 1 or more"):
        norm.split(0)
    NORMS["ln"]().split(4)  # which does not see other cases
