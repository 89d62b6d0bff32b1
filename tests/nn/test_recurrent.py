"""The layers: torch's own where there is no norm, and what norms, states, lengths and options add to them."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import lnexp.nn as ours
from lnexp.nn.ops.recurrent import dispatch

torch.set_num_threads(1)
KINDS = ["RNN", "LSTM", "GRU"]
NORMS = [norm for norm in ours.NORMS if norm != "bn_everywhere"]  # which is bn in these layers


@pytest.fixture(params=["eager", "reference", "as installed"])
def implementation(request, monkeypatch):
    """Every way a layer can be computed; as installed: compiled where there is a compiler."""
    if request.param == "eager":
        monkeypatch.setattr(dispatch, "fits", lambda *_: False)
    if request.param == "reference":
        monkeypatch.setenv("LNEXP_FUSED", "0")


def pair(kind: str, *sizes: int, **options) -> tuple[nn.Module, nn.Module]:
    """torch's layer and ours, drawn from one seed."""
    torch.manual_seed(3)
    theirs = getattr(nn, kind)(*sizes, **options)
    torch.manual_seed(3)
    return theirs, getattr(ours, kind)(*sizes, norm="none", **options)


def flat(output) -> list[torch.Tensor]:
    out, state = output
    out = out.data if isinstance(out, PackedSequence) else out
    return [out, *(state if isinstance(state, tuple) else (state,))]


def assert_same_outputs_and_gradients(theirs, mine, call, x):
    found = []
    for layer in (theirs, mine):
        leaf = x.detach().requires_grad_()
        tensors = flat(call(layer, leaf))
        generator = torch.Generator().manual_seed(1)
        sum((t * torch.randn(t.shape, generator=generator)).sum() for t in tensors).backward()
        found.append({**dict(enumerate(tensors)), "x": leaf.grad, **{n: p.grad for n, p in layer.named_parameters()}})
    for name, expected in found[0].items():
        size = max(1.0, expected.abs().max().item())  # gradients are sums over cases and steps
        torch.testing.assert_close(found[1][name] / size, expected / size, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 3, "dropout": 0.5},
    ],
    ids=str,
)
def test_without_norm_it_is_torchs_layer(kind, options):
    theirs, mine = pair(kind, 5, 7, **options)
    x = torch.randn(4, 6, 5)

    def seeded(layer, x):
        torch.manual_seed(5)  # of dropout
        return layer(x)

    assert_same_outputs_and_gradients(theirs, mine, seeded, x)

    layers = theirs.num_layers * (1 + theirs.bidirectional)
    state = torch.randn(layers, x.shape[0 if theirs.batch_first else 1], 7)
    state = (state, state.cos()) if kind == "LSTM" else state
    theirs.eval(), mine.eval()
    assert_same_outputs_and_gradients(theirs, mine, lambda layer, x: layer(x, state), x)

    one, state = torch.randn(4, 5), torch.randn(layers, 7)
    state = (state, state.cos()) if kind == "LSTM" else state
    assert_same_outputs_and_gradients(theirs, mine, lambda layer, x: layer(x, state), one)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[5, 4, 2, 2], [2, 5, 1, 4]])
def test_packed_sequences_go_in_and_come_out_as_in_torch(kind, lengths):
    theirs, mine = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(5, 4, 3)
    state = torch.randn(4, 4, 4)
    state = (state, state.cos()) if kind == "LSTM" else state

    def call(layer, x):
        return layer(pack_padded_sequence(x, lengths, enforce_sorted=lengths[0] == 5), state)

    assert_same_outputs_and_gradients(theirs, mine, call, x)
    packed, _ = call(mine, x)
    expected, _ = call(theirs, x)
    assert all(a is b or torch.equal(a, b) for a, b in zip(packed[1:], expected[1:], strict=True))

    padded, end = mine(x, state, lengths=lengths)
    torch.testing.assert_close(padded, pad_packed_sequence(packed)[0])
    torch.testing.assert_close(end, call(mine, x)[1])


def test_relu_rnn_is_torchs():
    theirs, mine = pair("RNN", 3, 4, nonlinearity="relu")
    assert_same_outputs_and_gradients(theirs, mine, lambda layer, x: layer(x), torch.randn(5, 2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_state_dicts_go_to_torch_and_back(kind):
    theirs, mine = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    assert list(theirs.state_dict()) == list(mine.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), mine.state_dict().values(), strict=True))
    getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True).load_state_dict(mine.state_dict())
    mine.load_state_dict(getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True).state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_all_norms_start_from_torchs_weights_and_draw_nothing_else(kind, norm):
    torch.manual_seed(3)
    theirs, after = getattr(nn, kind)(3, 4, 2), torch.rand(1)
    torch.manual_seed(3)
    mine = getattr(ours, kind)(3, 4, 2, norm=norm, max_t=5)
    assert torch.equal(torch.rand(1), after)
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"):
        torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), rtol=0, atol=1e-7)
    owned = norm not in ("none", "wn")
    assert torch.equal(mine.bias_ih_l0, torch.zeros_like(mine.bias_ih_l0) if owned else theirs.bias_ih_l0)
    assert hasattr(mine, "gain_hh_l1") == (owned and norm != "ln_simple")
    if hasattr(mine, "gain_hh_l1"):
        assert (mine.gain_hh_l1 == (0.1 if norm == "bn" else 1.0)).all()


def test_gains_and_eps_come_from_the_norm():
    assert (ours.LSTM(3, 4, norm=ours.LayerNorm(gain=0.5)).gain_c_l0 == 0.5).all()
    assert (ours.GRU(3, 4, norm=ours.BatchNorm(gain=1.0), max_t=2).gain_ih_l0 == 1).all()
    assert ours.GRU(3, 4, norm=ours.LayerNorm(eps=0.5)).cell.eps == 0.5


@pytest.mark.parametrize(
    ("layer", "extra"),
    [
        (ours.RNN(3, 4, norm="ln"), {"gain_hh_l0"}),
        (ours.GRU(3, 4, norm="ln"), {"gain_ih_l0", "gain_hh_l0"}),
        (ours.LSTM(3, 4, norm="ln"), {"gain_ih_l0", "gain_hh_l0", "gain_c_l0", "bias_c_l0"}),
        (ours.GRU(3, 4, norm="rms", placement="bias_inside"), {"gain_ih_l0", "gain_hh_l0", "bias_in_l0"}),
        (ours.LSTM(3, 4, norm="rms"), {"gain_ih_l0", "gain_hh_l0", "gain_c_l0", "bias_c_l0"}),
        (ours.LSTM(3, 4, norm="ln", placement="cell_only"), {"gain_c_l0", "bias_c_l0"}),
        (ours.LSTM(3, 4, norm="none", placement="bias_inside", max_t=5), set()),
        (ours.GRU(3, 4, norm="none", learned_state=True), {"h0"}),
        (ours.LSTM(3, 4, norm="none", learned_state=True), {"h0", "c0"}),
    ],
)
def test_parameters_that_norms_and_options_add(layer, extra):
    assert {n for n, _ in layer.named_parameters()} == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"} | extra


def test_the_form_for_draw_keeps_the_biases_of_the_gates_as_drawn():
    torch.manual_seed(3)
    plain = ours.LSTM(3, 4, norm="none")
    torch.manual_seed(3)
    draw = ours.LSTM(3, 4, norm="ln", placement="cell_only")
    assert torch.equal(plain.bias_ih_l0, draw.bias_ih_l0)
    assert (draw.bias_c_l0 == 0).all()


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_forget_bias_raises_the_forget_gate_alone(norm):
    torch.manual_seed(3)
    plain = ours.LSTM(3, 4, norm=norm)
    torch.manual_seed(3)
    raised = ours.LSTM(3, 4, norm=norm, forget_bias=1.0)
    expected = torch.zeros(16)
    expected[4:8] = 1
    torch.testing.assert_close(raised.bias_ih_l0 - plain.bias_ih_l0, expected)


def test_weight_norm_starts_as_the_plain_layer_and_can_be_assigned():
    torch.manual_seed(3)
    plain = ours.LSTM(3, 4, norm="none")
    torch.manual_seed(3)
    wn = ours.LSTM(3, 4, norm="wn")
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(wn(x)[0], plain(x)[0])
    wn(x)[0].sum().backward()
    assert all(p.grad is not None for p in wn.parameters())
    for layer in (wn, plain):
        layer.assign("weight_hh_l0", torch.arange(64.0).view(16, 4) / 64)
    torch.testing.assert_close(wn(x)[0], plain(x)[0])


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("norm", [n for n in NORMS if n != "bn"])
def test_learned_states_are_used_where_none_is_given(norm):
    torch.manual_seed(0)
    layer = ours.LSTM(3, 4, 2, norm=norm, bidirectional=True, learned_state=True, state_std=0.5)
    x = torch.randn(5, 2, 3)
    out, _ = layer(x)
    given = tuple(s[:, None].expand(-1, 2, -1) for s in (layer.h0, layer.c0))
    torch.testing.assert_close(layer(x, given)[0], out)
    assert not torch.allclose(layer(x, tuple(map(torch.zeros_like, given)))[0], out)
    out.sum().backward()
    assert layer.h0.grad.abs().min() > 0
    assert layer.c0.grad.abs().min() > 0


def test_batch_norm_cannot_see_a_learned_h0():
    """All cases share it, so that it cancels in the statistics over cases; the learned c0 is seen by the gates' products."""
    torch.manual_seed(0)
    layer = ours.LSTM(3, 4, norm="bn", learned_state=True, state_std=0.5, max_t=5, dtype=torch.float64)
    layer(torch.randn(5, 8, 3, dtype=torch.float64))[0].sum().backward()
    assert layer.h0.grad.abs().max() < 1e-10
    assert layer.c0.grad.abs().min() > 1e-6


def test_learned_states_leave_the_weights_and_the_pairing_alone():
    torch.manual_seed(3)
    plain = ours.GRU(3, 4, norm="ln")
    torch.manual_seed(3)
    learned = ours.GRU(3, 4, norm="ln", learned_state=True, state_std=0.1)
    assert torch.equal(plain.weight_hh_l0, learned.weight_hh_l0)
    torch.manual_seed(3)
    assert torch.equal(ours.GRU(3, 4, norm="rms", learned_state=True, state_std=0.1).h0, learned.h0)


@pytest.mark.usefixtures("implementation")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_lengths_are_each_sequence_run_alone(data):
    kind, norm = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from([n for n in NORMS if n != "bn"]))
    flags = {name: data.draw(st.booleans(), name) for name in ("bidirectional", "batch_first", "bias")}
    flags["placement"] = data.draw(st.sampled_from(["all_gates", "per_gate"]), "placement")
    steps, layers = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 2))
    lengths = data.draw(st.lists(st.integers(1, steps), min_size=1, max_size=4))
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    layer = getattr(ours, kind)(3, 4, layers, norm=norm, dtype=torch.float64, learned_state=True, state_std=1.0, **flags)
    shape = (len(lengths), steps, 3) if flags["batch_first"] else (steps, len(lengths), 3)
    x = torch.randn(*shape, dtype=torch.float64)
    out, *ends = flat(layer(x, lengths=lengths))
    x, out = (t.transpose(0, 1) if flags["batch_first"] else t for t in (x, out))
    for b, n in enumerate(lengths):
        alone, *alone_ends = flat(layer(x[:n, b]))
        torch.testing.assert_close(out[:n, b], alone)
        assert (out[n:, b] == 0).all()
        for end, alone_end in zip(ends, alone_ends, strict=True):
            torch.testing.assert_close(end[:, b], alone_end)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_unusual_inputs(kind, norm):
    """Views with odd strides, one layer twice in a graph, no cases, no steps."""
    torch.manual_seed(0)
    layer = getattr(ours, kind)(3, 4, 2, norm=norm, bidirectional=True, max_t=5)
    strided = torch.randn(3, 4, 10).permute(2, 1, 0)[::2]
    torch.testing.assert_close(layer(strided), layer(strided.contiguous()))

    x = torch.randn(5, 4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0 if norm != "wn" else layer.bias_hh_l0)
    both = layer(x)[0].sum() + layer(x)[0].sum()
    (twice,) = torch.autograd.grad(both, layer.weight_hh_l0 if norm != "wn" else layer.bias_hh_l0)
    torch.testing.assert_close(twice, 2 * first)

    for shape in ((5, 0, 3), (0, 4, 3)):
        tensors = flat(layer(torch.zeros(shape)))
        assert tensors[0].shape == (*shape[:2], 8)
        assert tensors[1].shape == (4, shape[1], 4)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["ln", "rms", "bn"])
def test_first_step_from_nothing_has_finite_gradients(kind, norm):
    """h0 = c0 = 0 and x = 0: eps stands inside the root, so zero variance divides by sqrt(eps), not by 0 (spec of the hazard)."""
    torch.manual_seed(0)
    layer = getattr(ours, kind)(1, 4, norm=norm, max_t=3)
    x = torch.randn(3, 2, 1)
    x[0] = 0
    x.requires_grad_()
    layer(x)[0].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert x.grad.isfinite().all()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
def test_zero_inputs_overflow_float32_and_the_remedies_work(kind):
    """Not a defect of any implementation: the true gradient grows with each step that stays at zero, LSTM's by 1 / (8 eps)."""

    def finite(padded_first: bool = True, lengths=None, **options) -> bool:
        torch.manual_seed(0)
        layer = getattr(ours, kind)(4, 20, **{"norm": "ln", **options})
        x = torch.zeros(30, 2, 4, dtype=layer.bias_hh_l0.dtype)
        x[slice(25, 30) if padded_first else slice(0, 5)] = torch.randn(5, 2, 4).to(x.dtype)
        layer(x, lengths=lengths)[0].square().sum().backward()
        return all(bool(p.grad.isfinite().all()) for p in layer.parameters())

    assert not finite()
    assert finite(dtype=torch.float64)
    assert finite(learned_state=True, state_std=0.1)
    assert finite(norm=ours.LayerNorm(eps=0.1))
    assert not finite(padded_first=False, bidirectional=True)  # the reverse direction starts in the padding
    assert finite(padded_first=False, bidirectional=True, lengths=[5, 5])
    if kind == "LSTM":
        assert finite(placement="cell_only")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_copies_and_files_hold_everything(kind, norm):
    torch.manual_seed(0)
    layer = getattr(ours, kind)(3, 4, 2, norm=norm, max_t=5, learned_state=True, state_std=1.0)
    x = torch.randn(5, 4, 3)
    layer(x)
    layer.eval()
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x), rtol=0, atol=0)
    if norm != "wn":  # torch pickles no reparametrised module
        torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x), rtol=0, atol=0)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = getattr(ours, kind)(3, 4, 2, norm=norm, max_t=5, learned_state=True).eval()
    other.load_state_dict(torch.load(file))
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)


X = torch.zeros(4, 2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.LSTM(3, 4, norm="lm"), "norm=lm: allowed are none, bn, ln, wn, rms"),
        (lambda: ours.LSTM(0, 4), "input_size=0: must be 1 or more"),
        (lambda: ours.LSTM(3, 4, 0), "num_layers=0: must be 1 or more"),
        (lambda: ours.LSTM(3, 4, dropout=1.5), "dropout=1.5: must be 0 to 1"),
        (lambda: ours.RNN(3, 4, nonlinearity="elu"), "nonlinearity=elu: allowed are tanh, relu"),
        (lambda: ours.LSTM(3, 4, bias=False, forget_bias=1.0), "bias=False: excludes placement=all_gates and forget_bias=1.0"),
        (lambda: ours.LSTM(3, 4, state_std=0.1), "state_std=0.1: must be 0 or more, and 0 without learned_state"),
        (lambda: ours.GRU(3, 4, norm="bn"), "max_t=None: norm=bn needs"),
        (lambda: ours.GRU(3, 4, norm="bn", max_t=2)(X[:, :1]), "batch_size=1: norm=bn needs at least 2 cases"),
        (lambda: ours.GRU(3, 4)(X[0, 0]), r"input.shape=\(3,\): must have 3 dimensions, or 2 for a single sequence"),
        (lambda: ours.GRU(5, 4)(X), "input has 3 features: must be input_size=5"),
        (lambda: ours.GRU(3, 4)(X, torch.zeros(1, 3, 4)), r"hx: h.shape=\(1, 3, 4\): must be \(1, 2, 4\)"),
        (lambda: ours.LSTM(3, 4)(X, torch.zeros(1, 2, 4)), "hx is a Tensor: must be a pair of tensors"),
        (lambda: ours.GRU(3, 4)(X, (torch.zeros(1, 2, 4),)), "hx is a tuple: must be a tensor h"),
        (lambda: ours.GRU(3, 4)(X, lengths=[4]), r"lengths=\[4\]: must be 2 whole numbers"),
        (lambda: ours.GRU(3, 4)(X, lengths=[4.0, 2.0]), "must be 2 whole numbers"),
        (lambda: ours.GRU(3, 4)(X, lengths=[5, 2]), r"lengths=\[5, 2\]: each must be 1 to 4"),
        (lambda: ours.GRU(3, 4)(X, lengths=[0, 2]), r"lengths=\[0, 2\]: each must be 1 to 4"),
        (lambda: ours.GRU(3, 4)(pack_padded_sequence(X, [4, 2]), lengths=[4, 2]), "a PackedSequence has its own"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_dropout_that_does_nothing_is_said_so():
    with pytest.warns(UserWarning, match="dropout=0.5 is between layers: with num_layers=1 it has no effect"):
        ours.GRU(3, 4, dropout=0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_gpu_it_is_the_same(kind, norm):
    torch.manual_seed(0)
    layer = getattr(ours, kind)(3, 4, 2, norm=norm, bidirectional=True, max_t=4, learned_state=True, dtype=torch.float64)
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        moved = copy.deepcopy(layer).to(device)
        training = layer_outputs_and_gradients(moved, x.to(device))
        evaluation = flat(moved.eval()(x.to(device), lengths=[5, 2, 4, 2]))
        found.append([t.cpu() for t in [*training, *evaluation, *moved.buffers()]])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)


def layer_outputs_and_gradients(layer, x) -> list[torch.Tensor]:
    tensors = flat(layer(x, lengths=[5, 2, 4, 2]))
    sum(t.square().sum() for t in tensors).backward()
    return [*tensors, *(p.grad for p in layer.parameters())]


def test_options_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="placement=cell_only: allowed are all_gates, per_gate, bias_inside"):
        ours.GRU(3, 4, placement="cell_only")
    for kind, option in (("GRU", {"proj_size": 2}), ("RNN", {"forget_bias": 1.0}), ("LSTM", {"nonlinearity": "relu"})):
        with pytest.raises(TypeError):
            getattr(ours, kind)(3, 4, **option)


def test_repr_says_what_differs_from_the_usual():
    assert repr(ours.GRU(3, 4, 2, norm="ln", bidirectional=True)) == "GRU(3, 4, num_layers=2, norm=ln, bidirectional=True)"
