"""The density of pen movements: against torch's distributions, compiled against plain, derivatives, extremes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, MultivariateNormal

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.mixture_density import LEAST, MOST, Mixture, mixture_density, plain

compiled = pytest.mark.skipif(library() is None, reason="no compiler")
N, M = 40, 21


def made(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    y_NP, target_N3 = scale * torch.randn(N, 6 * M + 1, dtype=dtype), torch.randn(N, 3, dtype=dtype)
    target_N3[:, 2] = (target_N3[:, 2] > 0).to(dtype)
    return y_NP.requires_grad_(), target_N3


def mixture(y_NP: Tensor) -> MixtureSameFamily:
    _, pi, mx, my, sx, sy, r = y_NP.split([1, *[M] * 6], dim=1)
    sx, sy, rho = sx.exp(), sy.exp(), r.tanh()
    covariance = torch.stack([torch.stack([sx**2, rho * sx * sy], -1), torch.stack([rho * sx * sy, sy**2], -1)], -2)
    return MixtureSameFamily(Categorical(logits=pi), MultivariateNormal(torch.stack([mx, my], -1), covariance))


@pytest.mark.parametrize("fused", ["0", "1"])
def test_it_is_the_density_of_torchs_distributions(fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNEXP_FUSED", fused)
    y_NP, target_N3 = made()
    nll_N2 = mixture_density(y_NP, target_N3)
    position_N = -mixture(y_NP).log_prob(target_N3[:, :2])
    end_N = -Bernoulli(logits=y_NP[:, 0]).log_prob(target_N3[:, 2])
    torch.testing.assert_close(nll_N2, torch.stack([position_N, end_N], 1), rtol=1e-9, atol=1e-9)


@compiled
@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_compiled_form_equals_the_plain_one(dtype: torch.dtype, most: float, scale: float) -> None:
    """At the larger scale many components are beyond the limits."""
    y_NP, target_N3 = made(dtype, scale)
    weight_N2 = torch.rand(N, 2, dtype=dtype)
    ours, truth = mixture_density(y_NP, target_N3), plain(y_NP, target_N3)
    assert type(ours.grad_fn).__name__ == "DensityBackward"
    (da,), (db,) = (torch.autograd.grad((nll * weight_N2).sum(), y_NP) for nll in (ours, truth))
    for a, b in ((ours, truth), (da, db)):
        assert ((a - b).abs() <= most * (1 + b.abs())).all()


@compiled
def test_derivatives_of_first_and_second_order() -> None:
    y_NP, target_N3 = made()
    y_NP = y_NP[:3, : 6 * 2 + 1].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: mixture_density(y, target_N3[:3]), y_NP)
    assert torch.autograd.gradgradcheck(lambda y: mixture_density(y, target_N3[:3]), y_NP)
    torch.testing.assert_close(
        torch.func.grad(lambda y: mixture_density(y, target_N3[:3]).sum())(y_NP.detach()),
        torch.autograd.grad(mixture_density(y_NP, target_N3[:3]).sum(), y_NP)[0],
    )


@pytest.mark.parametrize("fused", ["0", "1"])
def test_extremes_are_finite_in_float32(fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny and huge standard deviations, correlations of 1, sure ends that do not come, points far away."""
    monkeypatch.setenv("LNEXP_FUSED", fused)
    y_NP, target_N3 = made(torch.float32)
    extreme = y_NP.detach().clone()
    extreme[:10, 1 + 3 * M :] = -50
    extreme[10:20, 1 + 3 * M :] = 50
    extreme[20:30, 0] = 80
    target_N3[30:, :2] = 1000
    extreme.requires_grad_()
    nll_N2 = mixture_density(extreme, target_N3)
    nll_N2.sum().backward()
    assert nll_N2.isfinite().all() and extreme.grad is not None and extreme.grad.isfinite().all()
    least = -2 * LEAST + torch.tensor(MOST).cosh().log()
    assert (nll_N2[:, 0] > -least).all()  # no density beyond that of the narrowest component


def test_the_squared_error_is_that_of_the_mean() -> None:
    y_NP, target_N3 = made()
    mean_N2 = mixture(y_NP).mean
    torch.testing.assert_close(Mixture(y_NP).squared_error(target_N3), (target_N3[:, :2] - mean_N2).square().sum(1))


def test_what_does_not_fit_is_refused() -> None:
    y_NP, target_N3 = made()
    for wrong in ((y_NP[:, 1:], target_N3), (y_NP, target_N3[:-1]), (y_NP, target_N3.float()), (y_NP.half(), target_N3.half())):
        with pytest.raises(ValueError, match="must"):
            mixture_density(*wrong)
