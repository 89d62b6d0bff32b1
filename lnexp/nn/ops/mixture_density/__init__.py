"""The negative log-likelihood of pen movements under a mixture of bivariate Gaussians (Graves 2013, section 4.1).

Shapes: N points, M components, P = 6M + 1 outputs of a network.
"""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.autograd import addressable, forms, transformed, vjp, without_autocast
from lnexp.nn.ops.recurrent.cpu_call import function

LEAST, MOST = -5.0, 4.0  # least log sigma, in units of the targets; largest |atanh rho|: no density grows without bound
COMPONENTS = 64  # most that the compiled form takes


class Mixture:
    """The parameters of the mixtures in a network's outputs: end, then M each of pi, mu_x, mu_y, sigma_x, sigma_y, rho.

    Equations (18)-(22) of Graves: pi = softmax, mu as it is, sigma = exp, rho = tanh. (His (18) has 1 / (1 + exp(.)) for the end
    of a stroke; here it is the logit's usual sign.)

    Attributes:
        end_N: logit of the end of a stroke.
        log_pi_NM, mean_x_NM, mean_y_NM, log_sd_x_NM, log_sd_y_NM, atanh_rho_NM: the last three within LEAST and MOST.
    """

    def __init__(self, y_NP: Tensor) -> None:
        M = (y_NP.shape[1] - 1) // 6
        end_N1, pi_NM, self.mean_x_NM, self.mean_y_NM, sx_NM, sy_NM, r_NM = y_NP.split([1, *[M] * 6], dim=1)
        self.end_N, self.log_pi_NM = end_N1[:, 0], pi_NM.log_softmax(1)
        self.log_sd_x_NM, self.log_sd_y_NM = sx_NM.clamp(min=LEAST), sy_NM.clamp(min=LEAST)
        self.atanh_rho_NM = r_NM.clamp(-MOST, MOST)

    def squared_error(self, target_N3: Tensor) -> Tensor:
        """(dx - E[dx])^2 + (dy - E[dy])^2 of each point, with the mixture's mean as E."""
        pi_NM = self.log_pi_NM.exp()
        x_N, y_N = (pi_NM * self.mean_x_NM).sum(1), (pi_NM * self.mean_y_NM).sum(1)
        return (target_N3[:, 0] - x_N) ** 2 + (target_N3[:, 1] - y_N) ** 2


def mixture_density(y_NP: Tensor, target_N3: Tensor) -> Tensor:
    """The negative log-likelihood in nats, [N, 2]: of the position (equations 23-25) and of the end of stroke (26).

    Differentiable with respect to y_NP, to any order. Compiled for plain CPU tensors with up to 64 components, else plain torch,
    as with LNEXP_FUSED=0. Stable in float32: 1 - rho^2 is computed as sech^2.

    Args:
        y_NP: outputs of a network, see `Mixture`; float32 or float64.
        target_N3: dx, dy, and 1 where the stroke ends; without gradient.

    Raises:
        ValueError: shapes or types do not fit.
    """
    if y_NP.dim() != 2 or y_NP.shape[1] % 6 != 1 or y_NP.shape[1] < 7 or target_N3.shape != (len(y_NP), 3):
        raise ValueError(f"y_NP={tuple(y_NP.shape)}, target_N3={tuple(target_N3.shape)}: must be (N, 6M + 1), (N, 3)")
    if y_NP.dtype not in (torch.float32, torch.float64) or target_N3.dtype != y_NP.dtype or target_N3.requires_grad:
        raise ValueError(f"y_NP={y_NP.dtype}, target_N3={target_N3.dtype}: must both be float32 or float64, targets without grad")
    with without_autocast(y_NP.device):
        wanted = os.environ.get("LNEXP_FUSED", "") in ("", "1") and y_NP.shape[1] <= 6 * COMPONENTS + 1
        fits = wanted and addressable([y_NP, target_N3]) and library() is not None
        return Density.apply(y_NP, target_N3) if fits else plain(y_NP, target_N3)


def plain(y_NP: Tensor, target_N3: Tensor) -> Tensor:
    """The same as equations, to be differentiated by torch."""
    m = Mixture(y_NP)
    u_NM = (target_N3[:, :1] - m.mean_x_NM) * (-m.log_sd_x_NM).exp()
    v_NM = (target_N3[:, 1:2] - m.mean_y_NM) * (-m.log_sd_y_NM).exp()
    rho_NM, log_sech_NM = m.atanh_rho_NM.tanh(), -m.atanh_rho_NM.cosh().log()
    z_NM = u_NM**2 + v_NM**2 - 2 * rho_NM * u_NM * v_NM  # (25)
    log_n_NM = -z_NM * (-2 * log_sech_NM).exp() / 2 - m.log_sd_x_NM - m.log_sd_y_NM - log_sech_NM - math.log(2 * math.pi)  # (24)
    position_N = -torch.logsumexp(m.log_pi_NM + log_n_NM, 1)  # (23)
    end_N = F.binary_cross_entropy_with_logits(m.end_N, target_N3[:, 2], reduction="none")
    return torch.stack([position_N, end_N], 1)


class Call(ctypes.Structure):
    """`Density` of density.h, field by field."""

    _fields_ = [
        ("rows", ctypes.c_int64),
        ("components", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("least", "most", "y", "target", "nll", "dy")),
    ]


class Density(torch.autograd.Function):
    """The compiled form; its forward pass computes the gradients, its backward pass scales them."""

    @staticmethod
    def forward(ctx: Any, y_NP: Tensor, target_N3: Tensor) -> Tensor:
        y, target = y_NP.contiguous(), target_N3.contiguous()
        nll_N2, dy_NP, limits = y.new_empty(len(y), 2), torch.empty_like(y), y.new_tensor([LEAST, MOST])
        addresses = (limits[:1].data_ptr(), limits[1:].data_ptr(), *(t.data_ptr() for t in (y, target, nll_N2, dy_NP)))
        function("density", y.dtype)(ctypes.byref(Call(len(y), (y.shape[1] - 1) // 6, *addresses)))
        ctx.save_for_backward(y_NP, target_N3, dy_NP)
        ctx.forms = forms([y_NP, target_N3, dy_NP])
        return nll_N2

    @staticmethod
    def backward(ctx: Any, d_N2: Tensor) -> tuple[Tensor | None, None]:
        saved = y_NP, target_N3, dy_NP = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed([d_N2]) or forms(saved) != ctx.forms:
            return vjp(lambda y: [plain(y, target_N3)], [y_NP], [d_N2])[0], None
        grad_NP = dy_NP * d_N2[:, :1]
        grad_NP[:, 0] = dy_NP[:, 0] * d_N2[:, 1]
        return grad_NP, None
