"""The windowed LSTM: the compiled loop against the equations, derivatives, padding, what it refuses."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor

from lnexp.nn import LSTM
from lnexp.nn.csrc.build import library
from lnexp.nn.ops.window import Inputs, Output, window_lstm
from lnexp.nn.ops.window.cpu import fits
from lnexp.nn.ops.window.reference import attend, plain_function, reference

compiled = pytest.mark.skipif(library() is None, reason="no compiler")
FORMS = [("none", "all_gates"), ("wn", "all_gates"), ("rms", "all_gates"), ("bn", "all_gates")]
FORMS += [("ln", placement) for placement in ("all_gates", "per_gate", "bias_inside", "cell_only", "gates_only")]
PLAIN = [("group", "all_gates"), ("dyt", "all_gates"), ("ln", "carried_cell"), ("bn", "gates_only")]  # without kernels
T, B, D, C, K, U = 11, 5, 3, 7, 3, 18


def made(norm: str, placement: str, dtype: torch.dtype, hidden: int = 19) -> tuple[Inputs, list[Tensor]]:
    """Inputs with texts of 0 to U characters and sequences of 1 to T steps, and what has gradients."""
    torch.manual_seed(0)
    layer = LSTM(D + C, hidden, norm=norm, placement=placement, max_t=T).to(dtype)
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x_TBD = torch.randn(T, B, D, dtype=dtype, requires_grad=True)
    weight_p, bias_p = (0.3 * torch.randn(*size, dtype=dtype) for size in ((3 * K, hidden), (3 * K,)))
    text = torch.randint(0, C, (B, U)), torch.tensor([U, 0, 3, 17, 16]), torch.tensor([T, 8, 1, 4, T])
    inputs = Inputs(layer.cell, layer.weights("l0"), x_TBD, weight_p.requires_grad_(), bias_p.requires_grad_(), *text, C)
    return inputs, [x_TBD, weight_p, bias_p, *layer.parameters()]


def derived(out: Output, parameters: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    total = (out.h_TBH * torch.randn_like(out.h_TBH)).sum() + (out.w_TBC * torch.randn_like(out.w_TBC)).sum()
    return list(torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True, allow_unused=True))


@compiled
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 5e-3)])
@pytest.mark.parametrize(("norm", "placement"), FORMS)
def test_the_compiled_loop_equals_the_equations(norm: str, placement: str, dtype: torch.dtype, most: float) -> None:
    inputs, parameters = made(norm, placement, dtype)
    assert fits(inputs)
    ours, truth = window_lstm(inputs), reference(inputs)
    for a, b in zip([*ours[:2], *(ours.stats or ())], [*truth[:2], *(truth.stats or ())], strict=True):
        assert (a - b).abs().max() <= most * b.abs().max()
    for a, b in zip(derived(ours, parameters), derived(truth, parameters), strict=True):
        assert (a - b).abs().max() <= most * max(1e-3, float(b.abs().max()))


@pytest.mark.parametrize(("norm", "placement"), PLAIN)
def test_what_the_kernels_do_not_know_goes_to_the_equations(norm: str, placement: str) -> None:
    inputs, parameters = made(norm, placement, torch.float64, hidden=16)
    assert not fits(inputs)
    ours, truth = window_lstm(inputs), reference(inputs)
    assert torch.equal(ours.h_TBH, truth.h_TBH)
    assert all(d.isfinite().all() for d in derived(ours, parameters))


@compiled
def test_population_statistics_are_used_in_evaluation() -> None:
    inputs, parameters = made("bn", "all_gates", torch.float64)
    stats = window_lstm(inputs).stats
    assert stats is not None
    other = inputs._replace(x_TBD=inputs.x_TBD + 1, stats=stats)
    ours, truth = window_lstm(other), reference(other)
    assert ours.stats is None
    torch.testing.assert_close(ours.h_TBH, truth.h_TBH, rtol=1e-10, atol=1e-12)
    for a, b in zip(derived(ours, parameters), derived(truth, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@compiled
@pytest.mark.parametrize("norm", ["none", "ln"])
def test_derivatives_of_first_and_second_order(norm: str) -> None:
    inputs, _ = made(norm, "all_gates", torch.float64, hidden=4)
    tensors = [None if t is None else t[:3] if k == 0 else t for k, t in enumerate(inputs.tensors)]
    inputs = inputs._replace(lengths_B=inputs.lengths_B.clamp(max=3))
    given = [t.detach().requires_grad_() for t in tensors if t is not None]

    def outputs(*changed: Tensor) -> tuple[Tensor, ...]:
        left = iter(changed)
        return window_lstm(inputs.with_tensors(*(None if t is None else next(left) for t in tensors)))[:2]

    assert torch.autograd.gradcheck(outputs, given, atol=1e-6)
    assert torch.autograd.gradgradcheck(outputs, given, atol=1e-5)


def test_the_window_by_hand() -> None:
    """Equations (46)-(51) of Graves, number by number."""
    torch.manual_seed(0)
    p_BP, kappa_BK = torch.randn(2, 6, dtype=torch.float64), torch.rand(2, 2, dtype=torch.float64)
    phi_BU, new_BK = attend(p_BP, kappa_BK, 5)
    for b in range(2):
        alpha, beta, step = ([math.exp(float(v)) for v in p_BP[b, 2 * k : 2 * k + 2]] for k in range(3))
        kappa = [float(kappa_BK[b, k]) + step[k] for k in range(2)]
        assert new_BK[b].tolist() == pytest.approx(kappa)
        for u in range(5):
            assert float(phi_BU[b, u]) == pytest.approx(
                sum(alpha[k] * math.exp(-beta[k] * (kappa[k] - u) ** 2) for k in range(2))
            )


@pytest.mark.parametrize("fused", ["0", "1"])
def test_padding_is_never_read_and_gives_zeros(fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNEXP_FUSED", fused)
    inputs, parameters = made("bn", "all_gates", torch.float64)
    outside_TB = torch.arange(T)[:, None] >= inputs.lengths_B
    spoilt = inputs._replace(x_TBD=torch.where(outside_TB[..., None], math.nan, inputs.x_TBD))
    ours, truth = window_lstm(spoilt), window_lstm(inputs)
    assert torch.equal(ours.h_TBH, truth.h_TBH)
    assert (ours.h_TBH[outside_TB] == 0).all() and (ours.w_TBC[outside_TB] == 0).all()
    for a, b in zip(derived(ours, parameters), derived(truth, parameters), strict=True):
        torch.testing.assert_close(a, b)


@compiled
def test_what_follows_each_operation_gets_plain_operations() -> None:
    inputs, _ = made("ln", "all_gates", torch.float64)
    function = plain_function(inputs)

    def total(bias_p: Tensor) -> Tensor:
        return window_lstm(inputs._replace(bias_p=bias_p)).w_TBC.square().sum()

    ours = torch.func.grad(total)(inputs.bias_p.detach())
    (truth,) = torch.autograd.grad(function(*inputs.tensors)[1].square().sum(), inputs.bias_p)
    torch.testing.assert_close(ours, truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(window_lstm(inputs).h_TBH, window_lstm(inputs).h_TBH)
        assert window_lstm(inputs).h_TBH.dtype == torch.float64


@compiled
def test_outputs_are_freed_with_the_graph() -> None:
    inputs, parameters = made("ln", "all_gates", torch.float32)
    out = window_lstm(inputs)
    alive = weakref.ref(out.h_TBH)
    derived(out, parameters)
    del out
    assert alive() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_TBD": torch.zeros(0, B, D, dtype=torch.float64)}, "each 1 or more"),
        ({"x_TBD": torch.zeros(T, B, D + 1, dtype=torch.float64)}, "weight_ih="),
        ({"bias_p": torch.zeros(3 * K)}, "bias_p="),
        ({"codes_BU": torch.full((B, U), C)}, "codes_BU: from 7 to 7, must be from 0 to 6"),
        ({"characters_B": torch.full((B,), U + 1)}, "characters_B: from 19"),
        ({"lengths_B": torch.zeros(B, dtype=torch.int64)}, "lengths_B: from 0"),
        ({"lengths_B": torch.ones(B, dtype=torch.int32)}, "must be .* torch.int64"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor], message: str) -> None:
    inputs, _ = made("ln", "all_gates", torch.float64)
    with pytest.raises(ValueError, match=message):
        window_lstm(inputs._replace(**change))
