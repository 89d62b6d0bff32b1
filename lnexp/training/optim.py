"""Optimisers by name, and Adam as in the released code of two of the paper's experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

OPTIMIZERS = ("adam", "adam_slip", "rmsprop")


def make_optimizer(model: nn.Module, options: DictConfig) -> torch.optim.Optimizer:
    """The optimiser of a model, in torch's fastest form; `options` are those of `optimizer:` in configs/config.yaml."""
    o = options
    if o.name == "rmsprop":
        decay = {} if o.alpha is None else {"alpha": o.alpha}
        return torch.optim.RMSprop(model.parameters(), lr=o.lr, eps=o.eps, foreach=True, **decay)
    if o.name == "adam_slip":
        return AdamSlip(model.parameters(), lr=o.lr, betas=tuple(o.betas), eps=o.eps)
    return torch.optim.Adam(model.parameters(), lr=o.lr, betas=tuple(o.betas), eps=o.eps, fused=True)


class AdamSlip(torch.optim.Optimizer):
    """Adam with the bias correction of the released code of Vendrov et al. and Kiros et al. (paper sections 6.1 and 6.3).

    There b1 = 0.1 and b2 = 0.001 stand for 1 - beta, but the correction is sqrt(1 - b2^t) / (1 - b1^t), which is close to 1 from
    the first update on, so that early steps are up to 6 times as long as Adam's:

        m = beta1 m + (1 - beta1) g    v = beta2 v + (1 - beta2) g^2    p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), lr, eps = group["betas"], group["lr"], group["eps"]
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {"step": torch.zeros(()), "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
                self.state[p]["step"] += 1
            if not parameters:
                continue
            states = [self.state[p] for p in parameters]
            g, m, v = [p.grad for p in parameters], [s["m"] for s in states], [s["v"] for s in states]
            torch._foreach_lerp_(m, g, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, g, g, 1 - beta2)
            down = torch._foreach_sqrt(v)
            torch._foreach_add_(down, eps)
            t = states[0]["step"].item()
            correction = (1 - (1 - beta2) ** t) ** 0.5 / (1 - (1 - beta1) ** t)
            torch._foreach_addcdiv_(parameters, m, down, -lr * correction)
