"""The Fisher information against enumeration of outcomes, the KL divergence, and the paper's equations (13) and (14)."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.analysis.fisher import OUTPUTS, PHI, covariance, fisher, gain_metric, jacobian, own_unit
from lnexp.analysis.geometry import draw
from lnexp.analysis.norms import Layer
from lnexp.nn import NORMS

CASES, FEATURES, UNITS = 5, 2, 3


def outcomes(output: str, z_BN: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(log p(y | x) [B], p(y | x) [B]) of every outcome y, as functions of z."""
    if output == "softmax":
        log_BN = z_BN.log_softmax(dim=1)
        return [(log_BN[:, n], log_BN[:, n].exp()) for n in range(z_BN.shape[1])]
    found = []
    for y in itertools.product((0.0, 1.0), repeat=z_BN.shape[1]):
        log_B = -F.binary_cross_entropy_with_logits(z_BN, torch.tensor(y).expand_as(z_BN).double(), reduction="none").sum(1)
        found.append((log_B, log_B.exp()))
    return found


def own_parameters(layer: Layer) -> list[Tensor]:
    return [p for p in (layer.weight_ND, layer.bias_N, layer.gain_N) if p is not None]


def flat_by_unit(layer: Layer, grads: tuple[Tensor, ...]) -> Tensor:
    """Gradients in the order of theta: unit by unit weights, bias, gain."""
    parts = [g.reshape(UNITS, -1) for g in grads]
    return torch.cat(parts, dim=1).flatten()


@pytest.mark.parametrize("output", ["bernoulli", "softmax"])
@pytest.mark.parametrize("norm", ["bn", "ln", "wn", "rms"])
def test_it_is_the_mean_outer_product_of_scores_over_all_outcomes(norm: str, output: str) -> None:
    """F = E_x sum_y p(y | x) (d log p / d theta) (d log p / d theta)^T, with autograd on log p itself."""
    layer, x_BD = draw(norm, 0, CASES, FEATURES, UNITS)
    total = torch.zeros(UNITS * (FEATURES + 2), UNITS * (FEATURES + 2), dtype=torch.float64)
    for log_B, p_B in outcomes(output, layer(x_BD)):
        for b in range(CASES):
            score = flat_by_unit(layer, torch.autograd.grad(log_B[b], own_parameters(layer), retain_graph=True))
            total += p_B[b].detach() * torch.outer(score, score) / CASES
    z_BN, rows = jacobian(layer, x_BD)
    torch.testing.assert_close(fisher(rows, covariance(z_BN, output)), total)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", ["ln", "wn"])
def test_it_is_twice_the_kl_divergence_of_a_small_step(norm: str, output: str) -> None:
    """Equations (8) and (9)."""
    layer, x_BD = draw(norm, 1, CASES, FEATURES, UNITS)
    z_BN, rows = jacobian(layer, x_BD)
    matrix = fisher(rows, covariance(z_BN, output))
    delta = 1e-4 * torch.randn(len(matrix), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter, change in zip(own_parameters(layer), delta.view(UNITS, -1).split([FEATURES, 1, 1], dim=1), strict=True):
            parameter += change.reshape(parameter.shape)
        moved_BN = layer(x_BD)
    if output == "gaussian":
        kl_B = (z_BN - moved_BN).square().sum(1) / (2 * PHI)
    else:
        pairs = zip(outcomes(output, z_BN), outcomes(output, moved_BN), strict=True)
        kl_B = torch.stack([p_B * (log_B - after_B) for (log_B, p_B), (after_B, _) in pairs]).sum(0)
    assert float(kl_B.mean()) == pytest.approx(float(delta @ matrix @ delta) / 2, rel=1e-2)


def equation_13(norm: str, layer: Layer, x_BD: Tensor, c_BNN: Tensor) -> Tensor:
    """Equations (13) and (14) written out, with the derivatives of mu_i and sigma_i by w_i by hand."""
    w_ND, g_N = layer.weight_ND.detach(), layer.gain_N.detach().flatten()  # type: ignore[union-attr]
    a_BN = x_BD @ w_ND.t()
    if norm == "ln":
        mu_BN, s_BN = (m[:, None].expand_as(a_BN) for m in (a_BN.mean(1), a_BN.var(1, unbiased=False).sqrt()))
        dmu = x_BD[:, None, :].expand(-1, UNITS, -1) / UNITS
        ds = ((a_BN - mu_BN) / s_BN)[..., None] * x_BD[:, None, :] / UNITS
    elif norm == "bn":
        mu_BN, s_BN = (m.expand_as(a_BN) for m in (a_BN.mean(0), a_BN.var(0, unbiased=False).sqrt()))
        dmu = x_BD.mean(0).expand(CASES, UNITS, FEATURES)
        ds = torch.einsum("bn,bd->nd", (a_BN - mu_BN) / s_BN, x_BD - x_BD.mean(0)).expand(CASES, -1, -1) / CASES
    else:
        mu_BN, s_BN = torch.zeros_like(a_BN), w_ND.norm(dim=1).expand_as(a_BN)
        dmu = torch.zeros(CASES, UNITS, FEATURES, dtype=torch.float64)
        ds = (w_ND / w_ND.norm(dim=1, keepdim=True)).expand(CASES, -1, -1)
    zhat_BN = (a_BN - mu_BN) / s_BN
    chi = x_BD[:, None, :] - dmu - zhat_BN[..., None] * ds
    one_BN1 = torch.ones(CASES, UNITS, 1, dtype=torch.float64)
    column_BNQ = torch.cat([(g_N / s_BN)[..., None] * chi, one_BN1, zhat_BN[..., None]], dim=2)
    blocks = torch.einsum("bij,bip,bjq->ipjq", c_BNN, column_BNQ, column_BNQ) / CASES
    return blocks.reshape(UNITS * (FEATURES + 2), -1)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", ["bn", "ln", "wn"])
def test_own_unit_derivatives_are_equation_13(norm: str, output: str) -> None:
    layer, x_BD = draw(norm, 2, CASES, FEATURES, UNITS)
    z_BN, rows = jacobian(layer, x_BD)
    c_BNN = covariance(z_BN, output)
    expected = equation_13(norm, layer, x_BD, c_BNN)
    torch.testing.assert_close(fisher(own_unit(rows), c_BNN), expected)
    exact = torch.allclose(fisher(rows, c_BNN), expected)
    assert exact == (norm != "ln")


def test_what_it_leaves_out_for_layer_norm_is_the_tie_between_units() -> None:
    """d z_i / d w_k = -(g_i / sigma) (1 + zhat_i zhat_k) / N x for k != i."""
    layer, x_BD = draw("ln", 3, CASES, FEATURES, UNITS)
    a_BN = (x_BD @ layer.weight_ND.t()).detach()
    s_B1 = a_BN.var(1, unbiased=False, keepdim=True).sqrt()
    zhat_BN = (a_BN - a_BN.mean(1, keepdim=True)) / s_B1
    rows = jacobian(layer, x_BD)[1]
    assert layer.gain_N is not None
    for i, k in itertools.permutations(range(UNITS), 2):
        factor_B = -(layer.gain_N[i].detach() / s_B1[:, 0]) * (1 + zhat_BN[:, i] * zhat_BN[:, k]) / UNITS
        torch.testing.assert_close(rows[:, i, k, :FEATURES], factor_B[:, None] * x_BD)


def test_without_gains_the_metric_is_the_projection_of_equation_35() -> None:
    layer, x_BD = draw("none", 4, CASES, FEATURES, UNITS)
    z_BN, rows = jacobian(layer, x_BD)
    w_ND = layer.weight_ND.detach()
    u_BN = x_BD @ (w_ND / w_ND.norm(dim=1, keepdim=True)).t()
    c_BNN = covariance(z_BN, "softmax")
    torch.testing.assert_close(gain_metric(rows, c_BNN), torch.einsum("bi,bij,bj->ij", u_BN, c_BNN, u_BN) / CASES)


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_has_a_fisher_information(norm: str) -> None:
    layer, x_BD = draw(norm, 0, CASES, FEATURES, UNITS)
    z_BN, rows = jacobian(layer, x_BD)
    matrix = fisher(rows, covariance(z_BN, "gaussian"))
    torch.testing.assert_close(matrix, matrix.t())
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9 * matrix.norm()
    diagonal = matrix.diagonal().view(UNITS, -1)
    assert diagonal[:, :FEATURES].gt(0).all()
    assert diagonal[:, FEATURES].gt(0).all() == (layer.bias_N is not None)


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="output=poisson: allowed are bernoulli, gaussian, softmax"):
        covariance(torch.zeros(1, 2), "poisson")
