"""Batch normalisation inside recurrent layers: statistics per step, over real cases, and what evaluation does with them."""

import pytest
import torch
from torch import nn

from lnexp.nn import GRU, LSTM, RNN, BatchNorm
from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.ops.recurrent import dispatch
from lnexp.nn.ops.recurrent.interface import Stats

torch.set_num_threads(1)


@pytest.fixture(params=["eager", "reference", "as installed"], autouse=True)
def implementation(request, monkeypatch):
    if request.param == "eager":
        monkeypatch.setattr(dispatch, "fits", lambda *_: False)
    if request.param == "reference":
        monkeypatch.setenv("LNEXP_FUSED", "0")


def test_an_lstm_by_hand():
    """Two steps in training mode, written out with torch's own batch norm (Cooijmans et al., section 3)."""
    torch.manual_seed(0)
    layer = LSTM(3, 2, norm="bn", max_t=2)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if "weight" not in name:
                p.copy_(torch.randn_like(p))
    w, x_TBI = layer.weights("l0"), torch.randn(2, 6, 3)
    h = c = torch.zeros(6, 2)
    for t in range(2):
        a = nn.functional.batch_norm(h @ w.weight_hh.t(), None, None, w.gain_hh, w.bias_hh, True)
        a = a + nn.functional.batch_norm(x_TBI[t] @ w.weight_ih.t(), None, None, w.gain_ih, w.bias_ih, True)
        i, f, g, o = a.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * nn.functional.batch_norm(c, None, None, w.gain_c, w.bias_c, True).tanh()
    out, (h_n, c_n) = layer(x_TBI)
    torch.testing.assert_close(out[1], h)
    torch.testing.assert_close(h_n[0], h)
    torch.testing.assert_close(c_n[0], c)


def test_statistics_are_of_the_real_cases_of_each_step():
    layer = GRU(1, 2, norm=BatchNorm(momentum=1.0), max_t=3)
    layer.assign("weight_ih_l0", torch.ones(6, 1))
    x_TBI = torch.tensor([[1.0, 3.0, 8.0], [2.0, 6.0, torch.nan], [9.0, torch.inf, torch.nan]])[..., None]
    layer(x_TBI, lengths=[3, 2, 1])
    steps = layer.batch_steps["l0"]
    torch.testing.assert_close(steps.mean_ih[:, 0], torch.tensor([4.0, 4.0, 0.0]))
    torch.testing.assert_close(steps.var_ih[:, 0], torch.tensor([13.0, 8.0, 1.0]))  # unbiased; one case alone has none
    assert steps.batches.tolist() == [1, 1, 0]


@pytest.mark.parametrize(("momentum", "mean", "variance"), [(0.25, 1.875, 2.4375), (None, 4.0, 4.0)])
def test_averages_over_batches(momentum, mean, variance):
    """Batches of 3 cases with means, and unbiased variances, of 2 and 6; the averages start at 0 and 1."""
    steps = BatchSteps(2, {"hh": 1}, momentum)
    for value in (2.0, 6.0):
        stats = Stats(None, None, torch.full((2, 1), value), torch.full((2, 1), value * 2 / 3), None, None)
        steps.update(stats, torch.tensor([3, 3]))
    torch.testing.assert_close(steps.mean_hh[:, 0], torch.full((2,), mean))
    torch.testing.assert_close(steps.var_hh[:, 0], torch.full((2,), variance))


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_evaluation_uses_the_population_and_is_a_function_of_each_case(kind):
    torch.manual_seed(0)
    layer = kind(3, 4, 2, norm="bn", bidirectional=True, max_t=5)
    x = torch.randn(5, 8, 3)
    for _ in range(5):
        layer(x)
    before = {name: b.clone() for name, b in layer.named_buffers()}
    layer.eval()
    out, _ = layer(x)
    torch.testing.assert_close(layer(x[:, :1])[0], out[:, :1])
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_with_this_batchs_own_statistics_evaluation_is_training(kind):
    torch.manual_seed(0)
    layer = kind(3, 4, norm=BatchNorm(momentum=1.0), max_t=5, dtype=torch.float64)
    x = torch.randn(5, 8, 3, dtype=torch.float64)
    out, _ = layer(x)
    for name, buffer in layer.named_buffers():
        if "var" in name:
            buffer.mul_(7 / 8)  # back to the biased variance, which training divides by
    torch.testing.assert_close(layer.eval()(x)[0], out)


def test_beyond_the_last_step_with_statistics_the_last_ones_are_used():
    torch.manual_seed(0)
    steps = BatchSteps(4, {"hh": 2}, 1.0)
    mean, var = torch.randn(6, 2), torch.rand(6, 2)
    steps.update(Stats(None, None, mean, var, None, None), torch.tensor([9, 9, 9, 1, 0, 0]))
    population = steps.population(6)
    torch.testing.assert_close(population.mean_hh, mean[[0, 1, 2, 2, 2, 2]])  # step 3 had one case alone
    torch.testing.assert_close(population.var_hh, var[[0, 1, 2, 2, 2, 2]] * 9 / 8)
    steps.update(Stats(None, None, mean, var, None, None), torch.full((6,), 9))
    torch.testing.assert_close(steps.population(6).mean_hh, mean[[0, 1, 2, 3, 3, 3]])  # max_t is 4


def test_sequences_longer_than_max_t_train_and_evaluate():
    torch.manual_seed(0)
    layer = LSTM(3, 4, norm="bn", max_t=2)
    x = torch.randn(6, 5, 3)
    layer(x)[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert layer.eval()(x)[0].isfinite().all()


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_steps_that_one_case_reaches_are_finite(kind):
    """Its mean is the case itself: only the biases are left, and no gradient goes through."""
    torch.manual_seed(0)
    layer = kind(3, 4, norm="bn", bidirectional=True, max_t=6)
    x = torch.randn(6, 3, 3, requires_grad=True)
    out, _ = layer(x, lengths=[5, 2, 1])  # steps 2 to 4 are reached by one case, step 5 by none
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert all(b.isfinite().all() for b in layer.buffers())
    assert layer.eval()(x)[0].isfinite().all()


def test_calibration_is_the_mean_over_the_batches_of_training():
    torch.manual_seed(0)
    norm = BatchNorm()
    model = nn.ModuleDict({"rnn": RNN(3, 4, norm=norm, max_t=5), "other": norm.dense(4)})
    batches = [torch.randn(5, 6, 3) for _ in range(3)]

    def forward(x):
        return model["other"](model["rnn"](x)[1][0])

    forward(100 * batches[0])  # what calibration must forget
    model.eval()
    norm.calibrate(model, forward, batches)
    assert not model.training
    rnn = model["rnn"]
    assert rnn.batch_steps["l0"].momentum == norm.momentum
    first = torch.stack([x[0] @ rnn.weight_ih_l0.t() for x in batches]).detach()  # the sum at step 0, as h0 = 0
    torch.testing.assert_close(rnn.batch_steps["l0"].mean_hh[0], first.mean(dim=(0, 1)))
    torch.testing.assert_close(rnn.batch_steps["l0"].var_hh[0], first.var(dim=1).mean(dim=0))
    assert rnn.batch_steps["l0"].batches.tolist() == [3] * 5


def test_running_statistics_are_left_alone_by_calibration():
    norm = BatchNorm(statistics="running")
    layer = GRU(3, 4, norm=norm, max_t=2)
    layer(torch.randn(2, 4, 3))
    before = layer.batch_steps["l0"].mean_ih.clone()
    norm.calibrate(layer, layer, [torch.randn(2, 4, 3)])
    assert torch.equal(layer.batch_steps["l0"].mean_ih, before)


def test_the_draw_form_has_statistics_of_the_cell_alone():
    layer = LSTM(3, 4, norm="bn", placement="cell_only", max_t=2)
    assert {name.split(".")[-1] for name, _ in layer.named_buffers()} == {"mean_c", "var_c", "batches"}
    layer(torch.randn(2, 4, 3))
    assert layer.batch_steps["l0"].mean_c.abs().max() > 0


def test_an_untrained_layer_evaluates_with_mean_0_and_variance_1():
    layer = GRU(3, 4, norm="bn", max_t=2).eval()
    x = torch.randn(4, 1, 3)
    plain = GRU(3, 4, norm=BatchNorm(eps=0.0), max_t=2).eval()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x)[0], plain(x)[0], rtol=0, atol=1e-5)
    assert (layer.batch_steps["l0"].var_hh == 1).all()
