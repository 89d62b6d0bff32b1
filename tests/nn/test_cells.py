"""One step: torch's cells where there is no norm, the layers step by step where there is one, and packed weights."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import lnexp.nn as ours

KINDS = ["RNN", "LSTM", "GRU"]
NORMS = [norm for norm in ours.NORMS if norm != "bn_everywhere"]  # which is bn in recurrent layers
PLACEMENTS = ["all_gates", "per_gate", "bias_inside", "cell_only", "gates_only", "carried_cell"]
T, B, I, H = 4, 3, 5, 7


@pytest.fixture(params=["kernels", "plain"])
def implementation(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setenv("LNEXP_FUSED", "0")


def converted(state: dict) -> dict:
    """A layer's state under the cell's names."""
    return {name.replace("_l0", "").replace(".l0", ""): value for name, value in state.items()}


def layer_and_cell(kind: str, norm: str, dtype=torch.float64, **placement) -> tuple[nn.Module, nn.Module]:
    """A layer with random parameters, and the cell that has the same."""
    torch.manual_seed(0)
    layer = getattr(ours, kind)(I, H, norm=norm, max_t=T - 1, dtype=dtype, **placement)
    cell = getattr(ours, f"{kind}Cell")(I, H, norm=norm, max_t=T - 1, dtype=dtype, **placement)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.1 * torch.randn_like(p))
    cell.load_state_dict(converted(layer.state_dict()))
    return layer, cell


def steps(cell: nn.Module, x_TBI: torch.Tensor, state=None) -> torch.Tensor:
    outs = []
    for t, x_BI in enumerate(x_TBI):
        state = cell(x_BI, state, t=t)
        outs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outs)


def flat(state) -> tuple[torch.Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def state_of(kind: str, *shape: int, dtype=torch.float32):
    h = torch.randn(*shape, dtype=dtype)
    return (h, torch.randn(*shape, dtype=dtype)) if kind == "LSTM" else h


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_layers(kind, norm, placement):
    if placement in ("cell_only", "gates_only", "carried_cell") and kind != "LSTM":
        pytest.skip("other cells have no c")
    layer, cell = layer_and_cell(kind, norm, placement=placement)
    x_TBI = torch.randn(T, B, I, dtype=torch.float64)
    for training in (True, False):
        layer.train(training).zero_grad(), cell.train(training).zero_grad()
        expected, actual = layer(x_TBI)[0], steps(cell, x_TBI)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
        expected.sin().sum().backward(), actual.sin().sum().backward()
        gradients = converted({name: p.grad for name, p in layer.named_parameters()})
        assert gradients.keys() == dict(cell.named_parameters()).keys()
        for name, p in cell.named_parameters():
            torch.testing.assert_close(p.grad, gradients[name], rtol=0, atol=1e-9)
        for statistics, buffer in zip(layer.buffers(), cell.buffers(), strict=True):
            torch.testing.assert_close(buffer, statistics)
    with torch.no_grad(), cell.packed():
        torch.testing.assert_close(steps(cell, x_TBI), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["none", "ln", "rms", "bn"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [1, 40])  # columns of W_ih, and panels
def test_steps_are_the_layers_in_float32_and_with_threads(kind, norm, inputs):
    torch.manual_seed(0)
    layer = getattr(ours, kind)(inputs, 37, norm=norm, max_t=T)
    cell = getattr(ours, f"{kind}Cell")(inputs, 37, norm=norm, max_t=T)
    cell.load_state_dict(converted(layer.state_dict()))
    x_TBI, state = torch.randn(T, 5, inputs), state_of(kind, 5, 37)
    layer(x_TBI)
    cell.load_state_dict(converted(layer.state_dict()))
    layer.eval(), cell.eval()
    torch.set_num_threads(2)
    start = tuple(s[None] for s in state) if kind == "LSTM" else state[None]
    expected = layer(x_TBI, start)[0]
    torch.testing.assert_close(steps(cell, x_TBI, state), expected, rtol=0, atol=2e-5)
    with torch.no_grad(), cell.packed():
        torch.testing.assert_close(steps(cell, x_TBI, state), expected, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (6,)])
def test_without_norm_it_is_torchs_cell(kind, bias, batch):
    options = {"nonlinearity": "relu"} if kind == "RNN" else {}
    torch.manual_seed(3)
    theirs = getattr(nn, f"{kind}Cell")(I, H, bias, **options)
    torch.manual_seed(3)
    mine = getattr(ours, f"{kind}Cell")(I, H, bias, **options, norm="none")
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    mine.load_state_dict(theirs.state_dict())
    x, state = torch.randn(*batch, I), state_of(kind, *batch, H)
    for given in (None, state):
        found = []
        for cell in (theirs, mine):
            leaves = [x.clone().requires_grad_(), *(s.clone().requires_grad_() for s in flat(given) if s is not None)]
            hx = None if given is None else tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
            outs = flat(cell(leaves[0], hx=hx))
            gradients = torch.autograd.grad(sum(o.sin().sum() for o in outs), [*leaves, *cell.parameters()])
            found.append([*outs, *gradients])
        for expected, actual in zip(*found, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
        with torch.no_grad(), mine.packed():
            for expected, actual in zip(flat(theirs(x, given)), flat(mine(x, given)), strict=True):
                torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_positional_arguments_are_torchs():
    assert ours.LSTMCell(3, 4, False, "cpu", torch.float64, norm="none").weight_ih.dtype == torch.float64
    assert "bias_hh" not in ours.GRUCell(3, 4, False, None, torch.float64).state_dict()
    assert ours.RNNCell(3, 4, True, "relu", "cpu", torch.float64).nonlinearity == "relu"


@pytest.mark.parametrize("norm", ["none", "ln", "rms", "bn"])
@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivatives_are_the_finite_differences(kind, norm):
    torch.manual_seed(0)
    cell = getattr(ours, f"{kind}Cell")(2, 3, norm=norm, max_t=1, dtype=torch.float64)
    names = [name for name, _ in cell.named_parameters()]
    weights = [torch.randn_like(p).requires_grad_() for p in cell.parameters()]
    x = torch.randn(4, 2, dtype=torch.float64).requires_grad_()
    states = [s.requires_grad_() for s in flat(state_of(kind, 4, 3, dtype=torch.float64))]

    def one_step(x, *rest):
        hx = tuple(rest[: len(states)]) if kind == "LSTM" else rest[0]
        values = dict(zip(names, rest[len(states) :], strict=True))
        return torch.func.functional_call(cell, values, (x, hx), {"t": 0})

    assert torch.autograd.gradcheck(one_step, (x, *states, *weights), atol=1e-4)
    assert torch.autograd.gradgradcheck(one_step, (x, *states, *weights), atol=1e-3, fast_mode=True)


def test_a_gradient_penalty_reaches_the_weights():
    cell = ours.LSTMCell(4, 8)
    penalties = []
    for context in (nullcontext(), pytest.MonkeyPatch.context()):
        with context as patch:
            if patch is not None:
                patch.setenv("LNEXP_FUSED", "0")
            z = torch.ones(3, 4).requires_grad_()
            h, c = cell(z, cell(z))  # the state depends on the input, too
            (gradient,) = torch.autograd.grad(h.sum() + c.sum(), z, create_graph=True)
            penalties.append(torch.autograd.grad((gradient.norm() - 1) ** 2, list(cell.parameters())))
    for actual, expected in zip(*penalties, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert sum(g.abs().sum() for g in penalties[0]) > 0


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_under_what_intercepts_torchs_calls(kind, inside):
    torch.manual_seed(0)
    cell = getattr(ours, f"{kind}Cell")(I, H).requires_grad_(False)
    x, state, tangent = torch.randn(B, I), state_of(kind, B, H), torch.randn(B, I)

    def h_of(x):
        return flat(cell(x, state))[0]

    expected = h_of(x)
    with cell.packed() if inside else nullcontext():
        torch.testing.assert_close(
            torch.vmap(lambda x, *s: flat(cell(x, s if kind == "LSTM" else s[0]))[0])(x, *flat(state)), expected
        )
        jacobian = torch.autograd.functional.jacobian(h_of, x)
        torch.testing.assert_close(torch.func.jacrev(h_of)(x), jacobian)
        torch.testing.assert_close(torch.func.jacfwd(h_of)(x), jacobian)
        z = x.clone().requires_grad_()
        (batched,) = torch.autograd.grad(h_of(z), z, torch.ones(2, B, H), is_grads_batched=True)
        torch.testing.assert_close(batched[1], jacobian.sum((0, 1)))
        with torch.no_grad(), forward_ad.dual_level():
            dual = forward_ad.unpack_dual(h_of(forward_ad.make_dual(x, tangent)))
        torch.testing.assert_close(dual.tangent, torch.einsum("bhci,ci->bh", jacobian, tangent))
        with torch.no_grad():
            traced = torch.jit.trace(h_of, (torch.randn(B, I),))
        torch.testing.assert_close(traced(x), expected)
        previous = torch.get_default_device()
        torch.set_default_device("meta")
        try:
            torch.testing.assert_close(h_of(x), expected)
        finally:
            torch.set_default_device(previous)
        assert cell.to("meta")(x.to("meta"))[0].is_meta


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_graph_that_is_compiled(kind):
    cell, x = getattr(ours, f"{kind}Cell")(I, H), torch.randn(B, I)

    def twice(x):
        return flat(cell(x, cell(x)))[0]

    expected, actual = (
        torch.autograd.grad(f(x).sum(), cell.weight_hh) for f in (twice, torch.compile(twice, backend="eager", fullgraph=True))
    )
    torch.testing.assert_close(actual, expected)
    with cell.packed():
        torch.testing.assert_close(torch.compile(twice, backend="eager")(x), twice(x))


@pytest.mark.parametrize("given", ["input", "input and state", "half input"])
@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_types_are_those_of_torchs_cell(kind, given):
    theirs, mine = getattr(nn, f"{kind}Cell")(I, H), getattr(ours, f"{kind}Cell")(I, H, norm="none")
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(B, I, dtype=torch.bfloat16 if given == "half input" else torch.float32)
    hx = state_of(kind, B, H) if given == "input and state" else None
    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = flat(theirs(x, hx)), flat(mine(x, hx))
        sum(t.float().sum() for t in actual).backward()
        with mine.packed(), torch.no_grad():
            inside = flat(mine(x, hx))
    for e, a, p in zip(expected, actual, inside, strict=True):
        assert a.dtype == p.dtype == e.dtype
        torch.testing.assert_close(a, e, rtol=0, atol=0.03)
        torch.testing.assert_close(p, a)
    assert all(p.grad.dtype == torch.float32 for p in mine.parameters())


def test_checkpointing_and_saved_tensor_hooks():
    from torch.utils.checkpoint import checkpoint

    cell, x = ours.GRUCell(I, H), torch.randn(B, I)
    expected = torch.autograd.grad(cell(x).sum(), cell.weight_ih)
    actual = torch.autograd.grad(checkpoint(cell, x, use_reentrant=False).sum(), cell.weight_ih)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), torch.from_numpy):
        hooked = cell(x).sum()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(hooked, cell.weight_ih), expected)


def test_an_empty_batch_has_zero_gradients():
    cell = ours.LSTMCell(I, H)
    h, _ = cell(torch.zeros(0, I))
    h.sum().backward()
    assert h.shape == (0, H)
    assert not cell.weight_hh.grad.any()


@pytest.mark.parametrize("norm", ["ln", "wn", "bn"])
@pytest.mark.parametrize("changed", ["optimiser", "load", "replaced", "data replaced", "statistics"])
def test_packed_weights_follow_changes_that_torch_counts(norm, changed):
    torch.manual_seed(0)
    cell, other = (ours.LSTMCell(I, H, norm=norm, max_t=2) for _ in range(2))
    cell(torch.randn(B, I), t=0), other(torch.randn(B, I), t=0)
    cell.eval(), other.eval()
    x, state = torch.randn(B, I), state_of("LSTM", B, H)
    with cell.packed():
        with torch.no_grad():
            before = cell(x, state, t=0)[0]
        name, weight = list(cell.named_parameters())[-1]
        if changed == "optimiser":
            cell(x, state, t=0)[0].sum().backward()
            torch.optim.SGD(cell.parameters(), 0.5).step()
        elif changed == "load":
            cell.load_state_dict(other.state_dict())
        elif changed == "replaced":
            module, _, leaf = name.rpartition(".")
            setattr(cell.get_submodule(module), leaf, nn.Parameter(weight.detach() + 1))
        elif changed == "data replaced":
            weight.data = weight.data + 1
        else:
            cell.train()(10 * x, state, t=0)
            cell.eval()
        with torch.no_grad():
            inside = cell(x, state, t=0)[0]
    with torch.no_grad():
        outside = cell(x, state, t=0)[0]
    torch.testing.assert_close(inside, outside)
    assert torch.equal(before, inside) == (changed == "statistics" and norm != "bn")


def test_nothing_is_kept_outside_the_block():
    cell, x = ours.LSTMCell(I, H), torch.randn(B, I)
    with torch.no_grad():
        for _ in range(2):
            with cell.packed(), cell.packed():
                inside = cell(x)[0]
            torch.testing.assert_close(cell(x)[0], inside)
            cell.weight_hh.data.add_(1)  # which no version counts
            cell.weight_ih.data.mul_(2)
            assert not torch.allclose(cell(x)[0], inside)


def test_inside_the_block_gradients_flow_and_copies_work():
    cell, x = ours.GRUCell(I, H), torch.randn(B, I)
    with cell.packed():
        with torch.no_grad():
            expected = cell(x)
        cell(x).sum().backward()
        assert cell.weight_hh.grad is not None
        buffer = io.BytesIO()
        torch.save(cell, buffer)
        for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
            with torch.no_grad():
                torch.testing.assert_close(other(x), expected)
                other.weight_hh.data.zero_()
                torch.testing.assert_close(cell(x), expected)
        with torch.inference_mode():
            torch.testing.assert_close(cell(x), expected)
        with torch.no_grad():  # any layout
            torch.testing.assert_close(cell(torch.cat([x, x], 1)[:, ::2]), cell(torch.cat([x, x], 1)[:, ::2].contiguous()))
            torch.testing.assert_close(cell(x[:1].expand(B, I)), cell(x[:1]).expand(B, H))
        assert cell.double()(x.double()).dtype == torch.float64


def test_weights_of_wrong_sizes_are_named():
    cell = ours.LSTMCell(I, H)
    cell.gain_c = nn.Parameter(torch.ones(H - 1))
    for context in (nullcontext(), cell.packed()):
        with torch.no_grad(), context, pytest.raises(ValueError, match=rf"gain_c.shape=\({H - 1},\): must have {H} elements"):
            cell(torch.randn(B, I))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.LSTMCell(0, 4), "input_size=0: must be 1 or more"),
        (lambda: ours.LSTMCell(3, 1), "hidden_size=1: must be 2 or more with norm=ln"),
        (lambda: ours.LSTMCell(3, 4, norm="lm"), "norm=lm: allowed are none, bn, ln"),
        (lambda: ours.RNNCell(3, 4, nonlinearity="elu"), "nonlinearity=elu: allowed are tanh, relu"),
        (
            lambda: ours.LSTMCell(3, 4, bias=False, forget_bias=1.0),
            "bias=False: excludes placement=all_gates and forget_bias=1.0",
        ),
        (lambda: ours.GRUCell(3, 4, norm="bn"), "max_t=None: norm=bn needs"),
        (lambda: ours.GRUCell(3, 4, norm="bn", max_t=2)(torch.zeros(2, 3)), "t=None: norm=bn needs the number of the step"),
        (lambda: ours.GRUCell(3, 4, norm="bn", max_t=2)(torch.zeros(1, 3), t=0), "batch_size=1: norm=bn needs at least 2"),
        (lambda: ours.GRUCell(3, 4)(torch.zeros(2, 5)), r"input.shape=\(2, 5\): must be \(batch, 3\) or \(3,\)"),
        (lambda: ours.GRUCell(3, 4)(torch.zeros(1, 2, 3)), r"input.shape=\(1, 2, 3\): must be"),
        (lambda: ours.GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(3, 4)), r"hx: h.shape=\(3, 4\): must be \(2, 4\)"),
        (
            lambda: ours.LSTMCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 4)),
            r"hx is a Tensor: must be a pair of tensors \(h, c\)",
        ),
        (lambda: ours.GRUCell(3, 4)(torch.zeros(2, 3), (torch.zeros(2, 4),)), "hx is a tuple: must be a tensor h"),
    ],
)
def test_mistakes_are_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_blocks_that_end_in_the_order_in_which_they_began_leave_nothing_packed() -> None:
    cell = ours.LSTMCell(3, 4, norm="ln")
    first, second = cell.packed(), cell.packed()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    x, before = torch.randn(2, 3), copy.deepcopy(cell)
    with torch.no_grad():
        cell.weight_hh.data.normal_()
        cell(x)
        h = torch.randn(2, 4), torch.randn(2, 4)
        before.weight_hh.copy_(cell.weight_hh)
        torch.testing.assert_close(cell(x, h)[0], before(x, h)[0])


def test_packed_steps_follow_weights_that_are_plain_tensors() -> None:
    cell, x, h = ours.LSTMCell(3, 4, norm="ln"), torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4))
    del cell.weight_hh
    cell.weight_hh = torch.randn(16, 4)
    with torch.no_grad(), cell.packed():
        cell(x, h)
        cell.weight_hh = torch.randn(16, 4)
        packed = cell(x, h)[0]
    torch.testing.assert_close(packed, cell(x, h)[0])
    cell.weight_hh.requires_grad_()
    with cell.packed():
        assert cell(x, h)[0].requires_grad
