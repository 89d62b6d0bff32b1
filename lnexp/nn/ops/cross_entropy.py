"""A softmax over many words and its cross-entropy, the logits of all rows never being there at once.

Shapes: N rows, H units, V words; C rows of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LIMIT = 2**26  # bytes of logits that are held at once, unless a single row needs more
EVEN = 64  # rows of a chunk are a multiple of it: bfloat16 products of 559 rows take half as long again a row as of 512


def linear_cross_entropy(
    h_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, target_N: Tensor, limit: int = LIMIT, bfloat16: bool = False
) -> Tensor:
    """The negative log-likelihood of some words, summed: -sum_n log softmax(W h_n + b)[target_n].

    Equal to torch's `cross_entropy(linear(h, W, b), target, reduction="sum")` to rounding. The rows are taken in chunks, and the
    gradients of a chunk are computed while its probabilities are at hand, so that one buffer [C, V], or two with
    bfloat16, take the place of several [N, V]. Differentiable once.

    Args:
        h_NH, weight_VH, bias_V: float32 or float64, all of one kind and on one device.
        target_N: int64, 0 to V - 1.
        limit: bytes that the buffers may take.
        bfloat16: round h, W, the logits and their gradient to bfloat16 and multiply these: half the time where the processor has
            instructions for it (AMX, AVX512-BF16), which round a chunk's gradients of h and W too; a little longer where not.
            Softmax, loss and sums over chunks keep their kind.

    Raises:
        ValueError: shapes or kinds do not fit.
    """
    if h_NH.dim() != 2 or target_N.shape != h_NH.shape[:1] or weight_VH.shape != (len(bias_V), h_NH.shape[1]):
        shapes = [tuple(t.shape) for t in (h_NH, weight_VH, bias_V, target_N)]
        raise ValueError(f"shapes {shapes}: must be (N, H), (V, H), (V,), (N,)")
    if h_NH.dtype not in (torch.float32, torch.float64) or not h_NH.dtype == weight_VH.dtype == bias_V.dtype:
        raise ValueError(f"{h_NH.dtype}, {weight_VH.dtype}, {bias_V.dtype}: must all be float32 or all float64")
    rows = max(1, limit // (len(bias_V) * (h_NH.element_size() + (2 if bfloat16 else 0))))
    rows -= rows % EVEN if rows > EVEN else 0
    if torch.is_grad_enabled() and any(t.requires_grad for t in (h_NH, weight_VH, bias_V)):
        return LinearCrossEntropy.apply(h_NH, weight_VH, bias_V, target_N, rows, bfloat16)
    return chunked(h_NH, weight_VH, bias_V, target_N, rows, bfloat16)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether there are instructions for it. Torch would do without, but at a tenth of the speed of float32."""
    instructions = torch.cpu.get_capabilities()
    return device.type != "cpu" or any(instructions.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` with chunks of so many rows; all of the backward pass but one factor is done in the forward pass."""

    @staticmethod
    def forward(ctx: Any, h_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, target_N: Tensor, rows: int, bfloat16: bool) -> Tensor:
        gradients = torch.empty_like(h_NH), torch.zeros_like(weight_VH), torch.zeros_like(bias_V)
        ctx.save_for_backward(*gradients)
        return chunked(h_NH, weight_VH, bias_V, target_N, rows, bfloat16, gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * factor for gradient in ctx.saved_tensors), None, None, None


@torch.no_grad()
def chunked(
    h_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor,
    target_N: Tensor,
    rows: int,
    bfloat16: bool,
    gradients: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss, chunk by chunk. `gradients`: of h (to be overwritten), weight and bias (to be added to); None: not wanted."""
    short = bfloat16 and multiplies_bfloat16(h_NH.device)
    product = torch.bfloat16 if short else h_NH.dtype  # the kind of number that is multiplied

    def rounded(t: Tensor) -> Tensor:
        return t.to(torch.bfloat16) if bfloat16 else t

    buffer_CV = h_NH.new_empty(min(rows, len(h_NH)), len(bias_V))
    factor_CV = torch.empty_like(buffer_CV, dtype=product) if short else buffer_CV
    loss_N = h_NH.new_empty(len(h_NH))
    w_VH = rounded(weight_VH).to(product)
    for first in range(0, len(h_NH), rows):
        part = slice(first, first + rows)
        h_CH, target_C1 = rounded(h_NH[part]).to(product), target_N[part, None]
        z_CV, f_CV = buffer_CV[: len(h_CH)], factor_CV[: len(h_CH)]
        torch.mm(h_CH, w_VH.t(), out=f_CV)
        torch.add(rounded(f_CV), bias_V, out=z_CV)
        z_CV -= z_CV.amax(1, keepdim=True)
        own_C1 = z_CV.gather(1, target_C1)
        sum_C1 = z_CV.exp_().sum(1, keepdim=True)
        loss_N[part] = (sum_C1.log() - own_C1)[:, 0]
        if gradients is None:
            continue
        dh_NH, dweight_VH, dbias_V = gradients
        z_CV /= sum_C1  # now the probabilities, and in the next line their difference from the truth
        z_CV.scatter_add_(1, target_C1, -torch.ones_like(own_C1))
        dbias_V += z_CV.sum(0)
        f_CV.copy_(z_CV if short else rounded(z_CV))
        dh_NH[part] = torch.mm(f_CV, w_VH)
        if short:
            dweight_VH += torch.mm(f_CV.t(), h_CH)
        else:
            dweight_VH.addmm_(f_CV.t(), h_CH)
    return loss_N.sum()
