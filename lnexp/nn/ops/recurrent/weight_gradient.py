"""The recurrent product W h of every step, with the gradient of W taken for all steps at once.

Plain autograd adds a small product of [G, b] and [b, H] to the gradient of W at each step, and reads and writes all of it
each time. Here autograd collects the gradients of the products, and one large product at the end gives that of W. Second
derivatives would be wrong: the caller wraps the results by `lnexp.nn.ops.autograd.with_higher_derivatives`.

Shapes: G features of the product, H hidden, N all (step, case) pairs, step after step; b the cases of one step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lnexp.nn.ops.autograd import without_autocast


class RecurrentProduct:
    """product(t, h_bH) = rows of step t + h_bH W^T; `close` wraps the results that are computed from the products.

    Args:
        rows_NG: added to the products, such as the input terms.
        sizes: number of rows of each step.
    """

    def __init__(self, weight_GH: Tensor, rows_NG: Tensor, sizes: list[int]) -> None:
        self.weight_HG = weight_GH.detach().t()
        self.states: list[Tensor] = []  # h_bH of every step, without their graph
        self.handed_over: list[Tensor] = []
        self.rows_bG = _Entrance.apply(weight_GH, rows_NG, self.handed_over).split(sizes)

    def __call__(self, t: int, h_bH: Tensor) -> Tensor:
        self.states.append(h_bH.detach())
        return torch.addmm(self.rows_bG[t], h_bH, self.weight_HG)

    def close(self, *results: Tensor) -> tuple[Tensor, ...]:
        """The results, through which every gradient must come. Differentiable once."""
        return _Exit.apply(self.states, self.handed_over, *results)


class _Exit(torch.autograd.Function):
    """The identity on results. Its backward pass runs first and hands the states to `_Entrance`.

    So autograd owns them, frees them after the backward pass, and notices when one was overwritten.
    """

    @staticmethod
    def forward(ctx: Any, states: list[Tensor], handed_over: list[Tensor], *results: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*states)
        ctx.handed_over = handed_over
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.handed_over[:] = ctx.saved_tensors
        return None, None, *grads


class _Entrance(torch.autograd.Function):
    """The identity on rows_NG. Its backward pass runs last, when the gradients of all products are there."""

    @staticmethod
    def forward(ctx: Any, weight_GH: Tensor, rows_NG: Tensor, handed_over: list[Tensor]) -> Tensor:
        ctx.handed_over = handed_over
        ctx.set_materialize_grads(False)
        return rows_NG.view_as(rows_NG)

    @staticmethod
    def backward(ctx: Any, grad_NG: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_NG is None:
            return None, None, None
        grad_GH = None
        if ctx.needs_input_grad[0]:
            with without_autocast(grad_NG.device):
                grad_GH = grad_NG.t() @ torch.cat(ctx.handed_over)
        ctx.handed_over.clear()
        return grad_GH, grad_NG, None
