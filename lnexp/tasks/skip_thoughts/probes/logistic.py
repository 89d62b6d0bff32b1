"""Many logistic regressions on the same features at once: with rows of their own, classes of their own, and each cost.

Nested cross-validation of one encoder asks for a thousand of them. Solved together, their products with the features are large
matrix products, and they share a preconditioner, as their Hessians differ little: a few conjugate-gradient steps then solve each
Newton step.

Shapes: N sentences, D features, P problems, K costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GAP = 1e-3  # stop when Newton's estimate of the way to the optimum is below this, in nats over all rows
NEWTON_STEPS, CG_STEPS, HALVINGS = 50, 20, 20


def logistic_path(x_ND: Tensor, y_NP: Tensor, train_NP: Tensor, costs: Sequence[float]) -> Tensor:
    """Decision values z_KNP = x w of the w that minimise |w|^2 / (2 C) + sum over the training rows of log(1 + exp(-y z)).

    This is the objective of liblinear, which the paper's evaluation used: the bias is the weight of a feature that is 1 and is
    regularised like the others, so x_ND should end with ones.

    Args:
        x_ND: features, float32, dense or sparse (coalesced).
        y_NP: the class of each row in a problem, +1 or -1.
        train_NP: 1 where a row is among the training rows of a problem, else 0.
        costs: the values of C, from small to large: each solution is the start of the next.
    """
    w_DP = torch.zeros(x_ND.shape[1], train_NP.shape[1])
    z_NP = torch.zeros(train_NP.shape)
    path = []
    for cost in costs:
        w_DP, z_NP = _newton(x_ND, y_NP, train_NP, 1 / cost, w_DP, z_NP)
        path.append(z_NP)
    return torch.stack(path)


def _newton(x_ND: Tensor, y_NP: Tensor, train_NP: Tensor, ridge: float, w_DP: Tensor, z_NP: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's method from (w, z = x w), every step solved roughly by conjugate gradients and shortened where it overshoots."""

    def objective_P(w_DP: Tensor, z_NP: Tensor) -> Tensor:
        return ridge / 2 * w_DP.square().sum(0) + (train_NP * F.softplus(-y_NP * z_NP)).sum(0)

    def curvature_NP() -> Tensor:
        p_NP = z_NP.sigmoid()
        return train_NP * p_NP * (1 - p_NP)

    precondition = _inverse(x_ND, curvature_NP().mean(1), ridge)
    value_P = objective_P(w_DP, z_NP)
    for _ in range(NEWTON_STEPS):
        slope_NP = train_NP * -y_NP * torch.sigmoid(-y_NP * z_NP)
        down_DP = -(x_ND.t() @ slope_NP + ridge * w_DP)
        if (down_DP * precondition(down_DP)).sum(0).max() < GAP:
            break
        step_DP, step_NP = _conjugate_gradients(x_ND, curvature_NP(), ridge, down_DP, precondition)
        length_P = torch.ones_like(value_P)
        for _ in range(HALVINGS):
            tried_P = objective_P(w_DP + length_P * step_DP, z_NP + length_P * step_NP)
            worse_P = tried_P > value_P * (1 + 1e-6)  # as far as float32 can tell
            if not worse_P.any():
                break
            length_P = torch.where(worse_P, length_P / 2, length_P)
        w_DP, z_NP, value_P = w_DP + length_P * step_DP, z_NP + length_P * step_NP, tried_P
    return w_DP, z_NP


def _inverse(x_ND: Tensor, weight_N: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """The inverse of the problems' average Hessian, which is close to that of each: they share most of their rows.

    Of sparse features only the Hessian's diagonal is taken. There are too many of them for more, and their products are cheap.
    """
    if x_ND.is_sparse:
        diagonal_D1 = x_ND.pow(2).t() @ weight_N[:, None] + ridge
        return lambda g_DP: g_DP / diagonal_D1
    hessian_DD = (x_ND.t() @ (weight_N[:, None] * x_ND)).double()
    hessian_DD.diagonal().add_(ridge + 1e-6 * hessian_DD.diagonal().max())  # products in float32 may go below 0 by that
    factor_DD = torch.linalg.cholesky(hessian_DD).to(x_ND.dtype)
    return lambda g_DP: torch.cholesky_solve(g_DP, factor_DD)


def _conjugate_gradients(
    x_ND: Tensor, curvature_NP: Tensor, ridge: float, down_DP: Tensor, precondition: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The steps that solve (x' diag(curvature) x + ridge) step = down to a tenth, a system a problem; and x step."""
    step_DP, step_NP = torch.zeros_like(down_DP), torch.zeros_like(curvature_NP)
    residual_DP = down_DP
    direction_DP = precondition(down_DP)
    size_P = (residual_DP * direction_DP).sum(0)
    goal_P = size_P / 100
    for _ in range(CG_STEPS):
        if (size_P <= goal_P).all():
            break
        direction_NP = x_ND @ direction_DP
        image_DP = x_ND.t() @ (curvature_NP * direction_NP) + ridge * direction_DP
        length_P = size_P / (direction_DP * image_DP).sum(0).clamp_min(1e-30)
        step_DP = step_DP + length_P * direction_DP
        step_NP = step_NP + length_P * direction_NP
        residual_DP = residual_DP - length_P * image_DP
        conditioned_DP = precondition(residual_DP)
        new_P = (residual_DP * conditioned_DP).sum(0)
        direction_DP = conditioned_DP + new_P / size_P.clamp_min(1e-30) * direction_DP
        size_P = new_P
    return step_DP, step_NP
