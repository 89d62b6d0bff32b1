"""The Fisher information of a normalised generalised linear model (section 5.2, equations 10 to 14 and 32 to 35), for any norm.

The model is p(y | x) with natural parameters z = g / sigma (W x - mu) + b, one layer of N units. Its parameters are
theta = vec([W, b, g]^T): unit by unit the weights w_i, the bias b_i and the gain g_i. Without a norm there is no gain; then the
third entry of a unit is a step along w_i / |w_i|, as in equation (35).

Shapes: B cases, D inputs, N units, Q = D + 2 parameters of a unit, P = N Q parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lnexp.analysis.norms import Layer

OUTPUTS = ("bernoulli", "gaussian", "softmax")
PHI = 0.5  # the dispersion, for the Gaussian its variance; the two others have 1


def covariance(z_BN: Tensor, output: str) -> Tensor:
    """Cov[y | x] / phi^2, [B, N, N], where z are the natural parameters; for the Gaussian z is the mean.

    Raises:
        ValueError: an output that is not in OUTPUTS.
    """
    if output == "bernoulli":
        return torch.diag_embed(z_BN.sigmoid() * (-z_BN).sigmoid())
    if output == "gaussian":
        return torch.eye(z_BN.shape[1], dtype=z_BN.dtype).expand(len(z_BN), -1, -1) / PHI
    if output == "softmax":
        p_BN = z_BN.softmax(dim=1)
        return torch.diag_embed(p_BN) - p_BN[:, :, None] * p_BN[:, None, :]
    raise ValueError(f"output={output}: allowed are {', '.join(OUTPUTS)}")


def jacobian(layer: Layer, x_BD: Tensor) -> tuple[Tensor, Tensor]:
    """The natural parameters z [B, N], and d z / d theta [B, N, N, Q]: case, output, unit, parameter of the unit.

    By automatic differentiation, through the statistics of the norm: of all units (layer normalisation), of all cases (batch
    normalisation), or of the weights (weight normalisation).
    """
    weight_ND, gain_N, bias_N = layer.weight_ND, layer.gain_N, layer.bias_N
    units, features = weight_ND.shape
    z_BN = layer(x_BD)
    rows = z_BN.new_zeros(len(x_BD), units, units, features + 2)
    wanted = [p for p in (weight_ND, bias_N, gain_N) if p is not None]
    for b in range(len(x_BD)):
        for n in range(units):
            grads = dict(zip(map(id, wanted), torch.autograd.grad(z_BN[b, n], wanted, retain_graph=True), strict=True))
            rows[b, n, :, :features] = grads[id(weight_ND)]
            if bias_N is not None:
                rows[b, n, :, features] = grads[id(bias_N)].flatten()
            if gain_N is not None:
                rows[b, n, :, features + 1] = grads[id(gain_N)].flatten()
    if gain_N is None:
        unit_ND = weight_ND.detach() / weight_ND.detach().norm(dim=1, keepdim=True)
        rows[..., features + 1] = (rows[..., :features] * unit_ND).sum(dim=-1)
    return z_BN.detach(), rows


def own_unit(rows_BNNQ: Tensor) -> Tensor:
    """The part of d z / d theta that equation (13) keeps: of each output the derivatives by its own unit's parameters."""
    own_NN = torch.eye(rows_BNNQ.shape[1], dtype=rows_BNNQ.dtype)
    return rows_BNNQ * own_NN[None, :, :, None]


def fisher(rows_BNNQ: Tensor, covariance_BNN: Tensor) -> Tensor:
    """F [P, P] = E_x[J^T Cov[y | x] / phi^2 J], for J = d z / d theta. With `own_unit` rows it is equation (13)."""
    rows_BNP = rows_BNNQ.flatten(2)
    return torch.einsum("bnp,bnm,bmq->pq", rows_BNP, covariance_BNN, rows_BNP) / len(rows_BNP)


def gain_metric(rows_BNNQ: Tensor, covariance_BNN: Tensor) -> Tensor:
    """The block [N, N] of F along the gains: equations (33) to (35); for batch normalisation, (32) with the factors it omits."""
    rows_BNN = rows_BNNQ[..., -1]
    return torch.einsum("bni,bnm,bmj->ij", rows_BNN, covariance_BNN, rows_BNN) / len(rows_BNN)
