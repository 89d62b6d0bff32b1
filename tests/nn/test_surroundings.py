"""The layers under features of torch: devices, tracing, export, autocast, checkpoints, hooks, processes, threads."""

from __future__ import annotations

import copy
import io
import multiprocessing
import threading
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import lnexp.nn as ours
from lnexp.nn.ops.order_violations import cpu as order_kernel
from lnexp.nn.ops.recurrent import cpu_call, dispatch

KINDS = ["RNN", "LSTM", "GRU"]


@pytest.fixture
def no_kernels(monkeypatch):
    """Whoever hands an address to compiled code fails."""
    for module in (cpu_call, order_kernel):
        monkeypatch.setattr(module, "execute", lambda *_, **__: pytest.fail("compiled code was called"))


@pytest.fixture(params=["as installed", "eager"])
def implementation(request, monkeypatch):
    if request.param == "eager":
        monkeypatch.setattr(dispatch, "fits", lambda *_: False)


def made(kind: str = "LSTM", *sizes: int, **options) -> nn.Module:
    torch.manual_seed(0)
    return getattr(ours, kind)(*(sizes or (4, 8)), **{"norm": "ln", **options})


X = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))


def gradients(layer: nn.Module, *given, **more) -> list[Tensor]:
    layer.zero_grad()
    layer(*given, **more)[0].square().sum().backward()
    return [p.grad.clone() for p in layer.parameters()]


class Doubling(Tensor):
    """A subclass that sees every operation."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
def test_a_trace_is_the_layer(kind, norm):
    layer = made(kind, norm=norm, bidirectional=True, max_t=5).eval()
    for no_grad in (True, False):
        with torch.set_grad_enabled(not no_grad), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(layer, (X,))
        torch.testing.assert_close(traced(X), layer(X))
        torch.testing.assert_close(traced(X.cos()), layer(X.cos()))
        torch.testing.assert_close(traced(X[:, :2])[0], layer(X[:, :2])[0])  # another batch size
        with pytest.raises(RuntimeError):
            traced(X[:3])  # the number of steps is part of a trace
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(X), layer(X))


@pytest.mark.usefixtures("no_kernels")
def test_nothing_but_plain_tensors_reaches_compiled_code():
    layer = made()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer(mode.from_tensor(X))[0].shape == (5, 3, 8)
        assert ours.order_violations(mode.from_tensor(X[0]), mode.from_tensor(X[1])).shape == (3, 3)
    assert made(device="meta")(X.to("meta"))[0].shape == (5, 3, 8)
    assert type(layer(X.as_subclass(Doubling))[0]) is Doubling
    assert layer(mode.from_tensor(X))[0].shape == (5, 3, 8)  # its mode is not active here
    make_fx(lambda x: layer(x)[0])(X)

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class Function(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    for around in (Mode(), Function(), FlopCounterMode(display=False)):
        with around:
            layer(X)[0].sum().backward()
            ours.order_violations(X[0], X[1])


@pytest.mark.usefixtures("no_kernels")
def test_negative_views_functional_tensors_and_freed_memory():
    layer = made()
    flipped = torch.complex(X, -X).conj().imag  # its memory holds -X
    assert flipped.is_neg()
    assert torch.equal(flipped, X)
    layer(flipped)
    functional = torch._to_functional_tensor(X)
    torch._enable_functionalization(reapply_views=False)
    try:
        layer(functional)
    finally:
        torch._disable_functionalization()
    freed = X.clone()
    freed.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="not allocated"):
        layer(freed)


def test_values_of_unusual_tensors():
    layer = made()
    flipped = torch.complex(X, -X).conj().imag
    torch.testing.assert_close(layer(flipped)[0], layer(X)[0])
    torch.testing.assert_close(layer(X.as_subclass(Doubling))[0].as_subclass(Tensor), layer(X)[0])
    with torch.inference_mode():
        torch.testing.assert_close(layer(X)[0], layer(X.clone())[0])
    graph = make_fx(lambda x: layer(x)[0])(X)
    torch.testing.assert_close(graph(X.sin()), layer(X.sin())[0])


@pytest.mark.parametrize("norm", ["none", "ln", "bn", "wn"])
@pytest.mark.parametrize("kind", KINDS)
def test_export(kind, norm):
    layer = made(kind, norm=norm, bidirectional=True, max_t=5).eval()
    program = torch.export.export(layer, (X,), strict=False)
    torch.testing.assert_close(program.module()(X.sin()), layer(X.sin()))


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_default_device_changes_nothing(kind, device):
    layer = made(kind, norm="bn", bidirectional=True, max_t=5)
    expected, found = copy.deepcopy(layer), []
    for model, default in ((expected, None), (layer, device)):
        torch.set_default_device(default)
        try:
            out, _ = model(X, lengths=[5, 2, 3])
            out.sum().backward()
            found.append([out, *model.eval()(X, lengths=[5, 2, 3])[:1], *model.buffers(), *(p.grad for p in model.parameters())])
            assert ours.order_violations(X[0], X[1]).device.type == "cpu"
        finally:
            torch.set_default_device(None)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("low_input", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_autocast_gives_the_types_of_torchs_layers(kind, packed, low_input, with_state):
    theirs, mine = getattr(nn, kind)(4, 8), made(kind, norm="none")
    x = X.bfloat16() if low_input else X
    x = pack_padded_sequence(x, [5, 4, 2]) if packed else x
    state = torch.zeros(1, 3, 8) if with_state else None
    state = (state, state) if with_state and kind == "LSTM" else state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        try:
            (expected, end), (out, mine_end) = theirs(x, state), mine(x, state)
        except (RuntimeError, ValueError) as error:  # what torch's own layer cannot do
            pytest.skip(f"torch: {error}")
    if packed:
        expected, out = expected.data, out.data
    flat = lambda s: s if isinstance(s, tuple) else (s,)  # noqa: E731
    assert [t.dtype for t in (out, *flat(mine_end))] == [t.dtype for t in (expected, *flat(end))]


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "ln", "rms", "bn", "wn", "group", "dyt"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_every_norm(kind, norm, dtype):
    """Results are rounded; gradients of parameters stay float32 and are those without autocast, to that rounding."""
    layer = made(kind, norm=norm, num_layers=2, bidirectional=True, max_t=5)
    state = torch.zeros(4, 3, 8) if kind != "LSTM" else (torch.zeros(4, 3, 8), torch.zeros(4, 3, 8))
    expected = gradients(layer, X, state)
    with torch.autocast("cpu", dtype=dtype):
        found = gradients(layer, X, state)  # the backward pass under autocast, too
        layer(X.to(dtype), state)[0].sum().backward()
    assert all(g.dtype == torch.float32 for g in found)
    found, expected = (torch.cat([g.flatten() for g in gradient]) for gradient in (found, expected))
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_autocast_leaves_float64_alone():
    layer = made(dtype=torch.float64)
    expected = layer(X.double())[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(X.double())[0], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_take_half_precision(dtype):
    v, s = X[0].to(dtype).requires_grad_(), X[1].to(dtype).requires_grad_()
    target = torch.tensor([0, 2, 1])
    for function, arguments in ((ours.order_violations, ()), (lambda v, s: ours.linear_cross_entropy(v, s, None, target), ())):
        result = function(v, s, *arguments)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, function(v.float(), s.float()))
        found = torch.autograd.grad(result.sum(), (v, s))
        assert [g.dtype for g in found] == [dtype, dtype]
        with torch.autocast("cpu", dtype=dtype):
            torch.testing.assert_close(function(v.float(), s.float()), result)
            function(v, s.float()).sum().backward()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing(kind, reentrant):
    layer = made(kind, num_layers=2, bidirectional=True)
    x = X.clone().requires_grad_()
    expected = gradients(layer, x, lengths=[5, 2, 3]), x.grad.clone()
    x.grad = None
    layer.zero_grad()
    checkpoint(lambda x: layer(x, lengths=[5, 2, 3])[0], x, use_reentrant=reentrant).square().sum().backward()
    torch.testing.assert_close(([p.grad for p in layer.parameters()], x.grad), expected)


@pytest.mark.usefixtures("implementation")
def test_checkpointed_second_derivatives():
    layer, x = made("GRU", dtype=torch.float64), X.double().requires_grad_()
    found = []
    for function in (lambda x: layer(x)[0], lambda x: checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)):
        (g,) = torch.autograd.grad(function(x).sin().mean(), x, create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*found)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_on_saved_tensors(kind):
    """Each is unpacked once, and may come back as another tensor."""
    layer, unpacked = made(kind), []

    def unpack(packed: tuple[int, Tensor]) -> Tensor:
        unpacked.append(packed[0])
        return packed[1].clone()

    expected, number = gradients(layer, X), iter(range(10_000))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (next(number), t.clone()), unpack):
        out = layer(X)[0]
    layer.zero_grad()
    out.square().sum().backward()
    assert len(unpacked) == len(set(unpacked)) > 0
    torch.testing.assert_close([p.grad for p in layer.parameters()], expected)


def test_a_hook_that_changes_types_is_refused_or_right():
    layer = made()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.to(torch.bfloat16), lambda t: t):
        out = layer(X)[0]
    with pytest.raises(RuntimeError):
        out.sum().backward()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
def test_empty_batches_have_zero_gradients(kind, norm):
    layer = made(kind, norm=norm, num_layers=2, bidirectional=True, max_t=5)
    for lengths in (None, [], torch.tensor([], dtype=torch.int64)):
        layer.zero_grad()
        x = X[:, :0].clone().requires_grad_()
        out, _ = layer(x, lengths=lengths)
        assert out.shape == (5, 0, 16)
        out.sum().backward()
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in layer.parameters())
        assert x.grad.shape == x.shape


def test_lengths_are_numbers():
    layer = made()
    for wrong in ([True, True, False], torch.tensor([True, True, True]), [1.0, 2.0, 3.0], torch.ones(3, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="must be 3 whole numbers"):
            layer(X, lengths=wrong)
    torch.testing.assert_close(layer(X, lengths=torch.tensor([5, 2, 3], dtype=torch.uint8)), layer(X, lengths=[5, 2, 3]))


@pytest.mark.parametrize("name", ["weight_ih_l0", "bias_hh_l1", "gain_c_l0", "h0"])
def test_a_deleted_parameter_is_missed(name):
    layer = made(num_layers=2, learned_state=True)
    delattr(layer, name)
    with pytest.raises(AttributeError, match=name):
        layer(X)


@pytest.mark.parametrize("x", [X.double(), X.long(), X.half()], ids=lambda x: str(x.dtype))
def test_types_that_do_not_fit_are_named(x):
    with pytest.raises(ValueError, match=f"input and hx are {x.dtype}.*must be torch.float32"):
        made()(x)
    with pytest.raises(ValueError, match=r"torch.float32, torch.float64: must be torch.float32"):
        made("GRU")(X, torch.zeros(1, 3, 8, dtype=torch.float64))


def test_copies_made_after_use_are_independent():
    layer = made()
    layer(X)[0].sum().backward()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight_hh_l0.zero_()
    assert not torch.equal(other(X)[0], layer(X)[0])


@pytest.mark.parametrize("lengths", [None, [5, 2, 3]])
def test_eager_results_may_be_overwritten(lengths, monkeypatch):
    monkeypatch.setattr(dispatch, "fits", lambda *_: False)
    layer, found = made("GRU"), []
    for twice in (lambda t: 2 * t, lambda t: t.mul_(2)):
        layer.zero_grad()
        out, h = layer(X, lengths=lengths)
        (twice(out).sum() + twice(h).sum()).backward()
        found.append([p.grad.clone() for p in layer.parameters()])
    torch.testing.assert_close(*found)


def in_child(layer: nn.Module, queue) -> None:
    out = layer(X)[0]
    out.sum().backward()
    queue.put(out.detach().double().sum().item())


def test_after_a_fork():
    layer = made()
    expected = layer(X)[0].detach().double().sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=in_child, args=(layer, queue))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == pytest.approx(expected)


def test_threads_share_a_layer():
    layer, found = made("GRU", 4, 64), {}
    xs = [torch.randn(30, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(4)]

    def work(n: int) -> None:
        for _ in range(5):
            x = xs[n].clone().requires_grad_()
            out = layer(x)[0]
            found[n] = out.detach(), torch.autograd.grad(out.square().sum(), x)[0]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, x in enumerate(xs):
        x = x.clone().requires_grad_()
        out = layer(x)[0]
        torch.testing.assert_close(found[n], (out.detach(), torch.autograd.grad(out.square().sum(), x)[0]))


def test_pruned_and_parametrised_weights():
    layer = made("GRU", norm="none")
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    plain = made("GRU", norm="none")
    plain.load_state_dict({n.replace("_orig", ""): v for n, v in layer.state_dict().items() if "mask" not in n})
    plain.assign("weight_hh_l0", layer.weight_hh_l0)
    torch.testing.assert_close(layer(X), plain(X))
