"""Derivatives of every kind and order: true for each implementation, whoever asks for them and however."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import lnexp.nn as ours
from lnexp.nn.ops.recurrent import dispatch

KINDS = ["RNN", "LSTM", "GRU"]
FORMS = [
    ("LSTM", {"norm": "ln"}),
    ("LSTM", {"norm": "none", "bidirectional": True, "num_layers": 2}),
    ("LSTM", {"norm": "bn", "max_t": 3}),
    ("LSTM", {"norm": "rms", "placement": "per_gate", "proj_size": 2}),
    ("LSTM", {"norm": "ln", "placement": "cell_only"}),
    ("GRU", {"norm": "ln", "placement": "bias_inside"}),
    ("GRU", {"norm": "none"}),
    ("GRU", {"norm": "wn"}),
    ("RNN", {"norm": "ln", "bidirectional": True}),
    ("RNN", {"norm": "none"}),
    ("LSTM", {"norm": "dyt"}),
    ("GRU", {"norm": "group"}),
]


@pytest.fixture(params=["as installed", "eager"])
def implementation(request, monkeypatch):
    """The compiled kernels where they fit, and the path without them."""
    if request.param == "eager":
        monkeypatch.setattr(dispatch, "fits", lambda *_: False)


def made(kind: str, options: dict, inputs: int = 2) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = getattr(ours, kind)(inputs, 3, dtype=torch.float64, **options)
    with torch.no_grad():
        for p in layer.parameters():  # no symmetric start, where gradients vanish
            p.add_(0.2 * torch.randn_like(p))
    return layer, torch.randn(3, 3, inputs, dtype=torch.float64)


def penalty(layer: torch.nn.Module, x: Tensor, lengths: list[int] | None) -> list[Tensor]:
    """The gradients of a gradient penalty, whose incoming gradient needs no gradient itself."""
    z = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(layer(z, lengths=lengths)[0].mean(), z, create_graph=True)
    assert g.requires_grad
    return list(torch.autograd.grad((g.norm() - 1) ** 2, [z, *layer.parameters()], allow_unused=True, materialize_grads=True))


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("lengths", [None, [3, 1, 2]])
@pytest.mark.parametrize(("kind", "options"), FORMS, ids=str)
def test_a_gradient_penalty_trains(kind, options, lengths, monkeypatch):
    layer, x = made(kind, options)
    found = penalty(layer, x, lengths)
    monkeypatch.setenv("LNEXP_FUSED", "0")
    for actual, expected in zip(found, penalty(layer, x, lengths), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize(("kind", "options"), FORMS, ids=str)
def test_second_derivatives_are_the_finite_differences(kind, options):
    layer, x = made(kind, options)
    names, values = zip(*layer.named_parameters(), strict=True)

    def function(x, *values):
        out, state = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))
        return out, *(state if isinstance(state, tuple) else (state,))

    leaves = [t.detach().requires_grad_() for t in (x, *values)]
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True, check_batched_grad=False)


@pytest.mark.usefixtures("implementation")
def test_a_state_computed_from_the_input_is_counted_once():
    """h0 depends on x: the derivative with respect to x inside the layer must not go through h0 again."""
    layer, x = made("GRU", {"norm": "ln"})

    def function(x):
        return layer(x, x[:1].sum(2, keepdim=True).expand(1, 3, 3).sin())[0]

    assert torch.autograd.gradgradcheck(function, x.requires_grad_(), fast_mode=True)


@pytest.mark.usefixtures("implementation")
def test_third_derivatives():
    layer, x = made("GRU", {"norm": "ln"})
    x.requires_grad_()
    order = layer(x)[0].sum()
    for _ in range(2):
        order = torch.autograd.grad(order, x, create_graph=True)[0].square().sum()
    (third,) = torch.autograd.grad(order, layer.weight_hh_l0)
    assert third.abs().max() > 0


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize(("kind", "options"), [form for form in FORMS if form[1]["norm"] != "bn"], ids=str)
def test_the_transforms_of_torch_func(kind, options):
    """jacrev, jvp and vmap of the layer agree with its own backward pass."""
    layer, x = made(kind, options)
    function = lambda x: layer(x)[0]  # noqa: E731
    expected = torch.autograd.functional.jacobian(function, x)
    torch.testing.assert_close(torch.func.jacrev(function)(x), expected)
    torch.testing.assert_close(torch.autograd.functional.jacobian(function, x, vectorize=True), expected)
    tangent = torch.randn_like(x)
    along = torch.einsum("abcdef,def->abc", expected, tangent)
    torch.testing.assert_close(torch.func.jvp(function, (x,), (tangent,))[1], along)
    for without in (False, True):
        with torch.set_grad_enabled(not without), forward_ad.dual_level():
            out = function(forward_ad.make_dual(x, tangent))
            torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, along)
    xs = torch.stack([x, x.cos()])
    torch.testing.assert_close(torch.func.vmap(function)(xs), torch.stack([function(x), function(x.cos())]))


def test_an_ensemble_of_layers_under_vmap():
    layers = [made("LSTM", {"norm": "ln"})[0] for _ in range(2)]
    with torch.no_grad():
        layers[1].weight_hh_l0.neg_()
    parameters, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    together = torch.func.vmap(lambda p, b: torch.func.functional_call(layers[0], (p, b), (x,))[0])(parameters, buffers)
    torch.testing.assert_close(together, torch.stack([layer(x)[0] for layer in layers]))


def test_reversal_with_lengths_under_transforms():
    layer, x = made("GRU", {"norm": "ln", "bidirectional": True})
    function = lambda x: layer(x, lengths=[3, 1, 2])[0]  # noqa: E731
    torch.testing.assert_close(torch.func.jacrev(function)(x), torch.autograd.functional.jacobian(function, x))
    assert torch.autograd.gradgradcheck(function, x.requires_grad_(), fast_mode=True)
    batched = torch.autograd.functional.jacobian(function, x.detach(), vectorize=True)
    torch.testing.assert_close(batched, torch.autograd.functional.jacobian(function, x.detach()))


def violations_inputs() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(n, 5, dtype=torch.float64).requires_grad_() for n in (3, 4)]


@pytest.mark.parametrize("choice", ["0", "1"])
def test_order_violations(choice, monkeypatch):
    monkeypatch.setenv("LNEXP_FUSED", choice)
    v, s = violations_inputs()
    assert torch.autograd.gradgradcheck(ours.order_violations, (v, s))
    (g,) = torch.autograd.grad(ours.order_violations(v, s).mean(), v, create_graph=True)
    assert torch.autograd.grad(g.square().sum(), s)[0].abs().max() > 0
    expected = torch.autograd.functional.jacobian(lambda v: ours.order_violations(v, s), v)
    torch.testing.assert_close(torch.func.jacrev(ours.order_violations)(v, s), expected)
    torch.testing.assert_close(torch.func.jacfwd(ours.order_violations)(v, s), expected)
    batched = torch.autograd.functional.jacobian(lambda v: ours.order_violations(v, s), v, vectorize=True)
    torch.testing.assert_close(batched, expected)


def test_order_violations_of_captions_computed_from_images():
    (v, _) = violations_inputs()
    assert torch.autograd.gradgradcheck(lambda v: ours.order_violations(v, v.sin() + 0.1), v)


@pytest.mark.parametrize("bias", [True, False])
def test_cross_entropy(bias):
    torch.manual_seed(0)
    h, w, b = (torch.randn(*s, dtype=torch.float64).requires_grad_() for s in ((4, 3), (6, 3), (6,)))
    target = torch.tensor([0, 5, -100, 2])

    def function(h, w, *b):
        return ours.linear_cross_entropy(h, w, b[0] if b else None, target, limit=2 * 6 * 8)

    leaves = (h, w, b) if bias else (h, w)
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)
    expected = torch.autograd.functional.jacobian(lambda h: function(h, *leaves[1:]), h)
    torch.testing.assert_close(torch.func.jacrev(function)(*leaves), expected)
    tangent = torch.randn_like(h)
    _, along = torch.func.jvp(lambda h: function(h, *(t.detach() for t in leaves[1:])), (h.detach(),), (tangent,))
    torch.testing.assert_close(along, (expected * tangent).sum())


@pytest.mark.parametrize("of", ["cross-entropy", "order violations", "weight norm"])
def test_a_gradient_penalty_inside_torch_compile_is_that_of_plain_torch(of: str) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 3), torch.randn(5, 3)
    layer = ours.NORMS["wn"]().weight(torch.nn.Linear(3, 5, bias=False))

    def loss(x: Tensor, w: Tensor) -> Tensor:
        if of == "cross-entropy":
            return ours.linear_cross_entropy(x, w, None, torch.tensor([0, 1, 2, 3]))
        if of == "order violations":
            return ours.order_violations(x, w).square().sum()
        return layer(x).square().sum()

    found = []
    for function in (loss, torch.compile(loss, backend="eager")):
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        layer.zero_grad()
        (gradient,) = torch.autograd.grad(function(*leaves), leaves[0], create_graph=True)
        gradient.square().sum().backward()
        found.append([t.grad for t in (*leaves, *layer.parameters())])
    for plain, compiled in zip(*found, strict=True):
        assert (plain is None) == (compiled is None)
        if plain is not None:
            torch.testing.assert_close(compiled, plain)
