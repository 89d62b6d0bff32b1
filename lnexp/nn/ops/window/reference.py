"""The windowed LSTM as equations: the oracle of the compiled one. Slow, and differentiable to any order.

Equation numbers are those of Graves (arXiv 1308.0850). Shapes: see `interface`; phi_BU the weight of each place of the text.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lnexp.nn.ops.recurrent.reference import Normalisation, linear, lstm_step
from lnexp.nn.ops.window.interface import Inputs, Output


def reference(inputs: Inputs) -> Output:
    """The loop over time."""
    cell, w, x_TBD, weight_p, bias_p, codes_BU, characters_B, lengths_B, symbols, stats = inputs
    steps, cases, _ = x_TBD.shape
    lengths_B = torch.full((cases,), steps, device="cpu") if lengths_B is None else lengths_B
    real_TB1 = (torch.arange(steps, device="cpu")[:, None] < lengths_B)[..., None].to(x_TBD.device)
    x_TBD = torch.where(real_TB1, x_TBD, 0)  # no value in the padding, not even a NaN, reaches the result
    one_hot_BUC = one_hot(codes_BU, characters_B, symbols, x_TBD.dtype)
    norm = Normalisation(cell, w, stats)
    h_BH = c_BH = x_TBD.new_zeros(cases, w.weight_hh.shape[1])
    kappa_BK, w_BC = x_TBD.new_zeros(cases, len(bias_p) // 3), x_TBD.new_zeros(cases, symbols)
    hidden, windows = [], []
    for t, (x_BD, real_B1) in enumerate(zip(x_TBD.unbind(), real_TB1.unbind(), strict=True)):
        norm.enter(t, real_B1)
        x_BI = torch.cat([x_BD, torch.where(real_B1, w_BC, 0)], dim=1)  # (52)
        h_new_BH, c_new_BH = lstm_step(cell, w, norm, x_BI, h_BH, c_BH)
        h_BH, c_BH = torch.where(real_B1, h_new_BH, h_BH), torch.where(real_B1, c_new_BH, c_BH)
        phi_BU, kappa_BK = attend(linear(h_BH, weight_p, bias_p), kappa_BK, codes_BU.shape[1])
        w_BC = (phi_BU[:, None] @ one_hot_BUC)[:, 0]  # (47)
        hidden.append(torch.where(real_B1, h_BH, 0))
        windows.append(torch.where(real_B1, w_BC, 0))
    return Output(torch.stack(hidden), torch.stack(windows), norm.batch_stats())


def attend(parameters_BP: Tensor, kappa_BK: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Equations (46) and (48)-(51): phi_BU of the first U = `places` places, the first being 0, and the new kappa_BK."""
    alpha_BK, beta_BK, step_BK = parameters_BP.exp().chunk(3, dim=1)
    kappa_BK = kappa_BK + step_BK
    u_U = torch.arange(places, dtype=kappa_BK.dtype, device=kappa_BK.device)
    phi_BKU = alpha_BK[..., None] * (-beta_BK[..., None] * (kappa_BK[..., None] - u_U) ** 2).exp()
    return phi_BKU.sum(1), kappa_BK


def one_hot(codes_BU: Tensor, characters_B: Tensor, symbols: int, dtype: torch.dtype) -> Tensor:
    """The texts as one-hot vectors [B, U, C]; zeros after their ends."""
    inside_BU = torch.arange(codes_BU.shape[1], device="cpu") < characters_B[:, None]
    return torch.nn.functional.one_hot(codes_BU, symbols).to(dtype) * inside_BU[..., None].to(codes_BU.device)


def plain_function(inputs: Inputs) -> Callable[..., tuple[Tensor, Tensor]]:
    """Both outputs as a function of `inputs.tensors`, for `lnexp.nn.ops.autograd.vjp`. Holds none of them."""
    run = inputs.without_tensors()
    return lambda *tensors: reference(run.with_tensors(*tensors))[:2]
