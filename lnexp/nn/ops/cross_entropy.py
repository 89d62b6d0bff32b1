"""Softmax and cross-entropy over a large vocabulary, without the logits of all rows in memory at once.

Shapes: N rows, H units, V words; C rows of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.nn.ops.autograd import HALF, common_type, transformed, vjp, without_autocast

LIMIT = 2**26  # bytes of logits in memory at once, unless a single row needs more
EVEN = 64  # rows of a chunk are a multiple of it: bfloat16 products of 559 rows take half as long again per row as of 512


def linear_cross_entropy(
    h_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    target_N: Tensor,
    limit: int = LIMIT,
    bfloat16: bool = False,
    ignore_index: int = -100,
) -> Tensor:
    """The summed negative log-likelihood of the target words: -sum_n log softmax(W h_n + b)[target_n].

    Equal to torch's `cross_entropy(linear(h, W, b), target, reduction="sum")` to rounding. Rows are taken in chunks, and the
    gradients of a chunk are computed with its probabilities, so that one buffer [C, V], or two with bfloat16, replace several
    [N, V]. Derivatives of order two and higher, and the transforms of `torch.func`, use all logits at once.

    Args:
        h_NH, weight_VH, bias_V: all float32 or all float64, on one device; bfloat16 and float16 are computed, and the loss is
            returned, in float32. bias_V=None: no bias.
        target_N: int64, 0 to V - 1, or ignore_index: rows without loss and gradient.
        limit: bytes that the buffers may take.
        bfloat16: round h, W, the logits and their gradient to bfloat16 and multiply these: half the time on processors with
            instructions for it (AMX, AVX512-BF16), where a chunk's gradients of h and W are rounded too; slightly slower on
            others. Softmax, loss and sums over chunks keep their type.

    Raises:
        ValueError: shapes or types do not fit.
    """
    shape_of_bias = (len(weight_VH),) if bias_V is None else tuple(bias_V.shape)
    fits = h_NH.dim() == 2 and weight_VH.shape == (*shape_of_bias, h_NH.shape[1]) and target_N.shape == h_NH.shape[:1]
    if not fits:
        shapes = [None if t is None else tuple(t.shape) for t in (h_NH, weight_VH, bias_V, target_N)]
        raise ValueError(f"shapes {shapes}: must be (N, H), (V, H), (V,) or None, (N,)")
    given = [t for t in (h_NH, weight_VH, bias_V) if t is not None]
    dtype = common_type(*given)
    if dtype is None:
        raise ValueError(f"{', '.join(str(t.dtype) for t in given)}: must all be float32 (or {HALF}) or all float64")
    h_NH, weight_VH, bias_V = h_NH.to(dtype), weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
    with without_autocast(h_NH.device):
        if torch.compiler.is_compiling() or transformed([*given, target_N]):
            return plain(h_NH, weight_VH, bias_V, target_N, ignore_index)
        rows = max(1, limit // (max(1, len(weight_VH)) * (h_NH.element_size() + (2 if bfloat16 else 0))))
        rows -= rows % EVEN if rows > EVEN else 0
        if torch.is_grad_enabled() and any(t.requires_grad for t in given):
            return LinearCrossEntropy.apply(h_NH, weight_VH, bias_V, target_N, rows, bfloat16, ignore_index)
        return chunked(h_NH, weight_VH, bias_V, target_N, rows, bfloat16, ignore_index)


def plain(h_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_N: Tensor, ignore_index: int) -> Tensor:
    """The loss in torch's own functions, to be differentiated by torch."""
    return F.cross_entropy(F.linear(h_NH, weight_VH, bias_V), target_N, ignore_index=ignore_index, reduction="sum")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it. On a CPU without them torch takes ten times as long as in float32."""
    instructions = torch.cpu.get_capabilities()
    return device.type != "cpu" or any(instructions.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` as one node; its forward pass computes the gradients, its backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        h_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        rows: int,
        bfloat16: bool,
        ignore_index: int,
    ) -> Tensor:
        dbias_V = None if bias_V is None else torch.zeros_like(bias_V)
        gradients = torch.empty_like(h_NH), torch.zeros_like(weight_VH), dbias_V
        ctx.save_for_backward(*gradients, h_NH, weight_VH, bias_V, target_N)
        ctx.ignore_index = ignore_index
        return chunked(h_NH, weight_VH, bias_V, target_N, rows, bfloat16, ignore_index, gradients)

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        *saved, target_N = ctx.saved_tensors
        gradients, inputs = saved[:3], saved[3:]
        if torch.is_grad_enabled():
            gradients = vjp(lambda h, w, b: [plain(h, w, b, target_N, ctx.ignore_index)], inputs, [factor])
            return *gradients, None, None, None, None
        return *(None if g is None else g * factor for g in gradients), None, None, None, None


@torch.no_grad()
def chunked(
    h_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    target_N: Tensor,
    rows: int,
    bfloat16: bool,
    ignore_index: int,
    gradients: tuple[Tensor, Tensor, Tensor | None] | None = None,
) -> Tensor:
    """The loss, chunk by chunk.

    Args:
        gradients: of h (overwritten), weight and bias (added to). None: not computed.
    """
    short = bfloat16 and multiplies_bfloat16(h_NH.device)
    product = torch.bfloat16 if short else h_NH.dtype  # type of the factors of the products

    def rounded(t: Tensor) -> Tensor:
        return t.to(torch.bfloat16) if bfloat16 else t

    buffer_CV = h_NH.new_empty(min(rows, len(h_NH)), len(weight_VH))
    factor_CV = torch.empty_like(buffer_CV, dtype=product) if short else buffer_CV
    loss_N = h_NH.new_empty(len(h_NH))
    w_VH = rounded(weight_VH).to(product)
    ignored_N = target_N == ignore_index
    target_N = target_N.masked_fill(ignored_N, 0)
    for first in range(0, len(h_NH), rows):
        part = slice(first, first + rows)
        h_CH, target_C1, ignored_C1 = rounded(h_NH[part]).to(product), target_N[part, None], ignored_N[part, None]
        z_CV, f_CV = buffer_CV[: len(h_CH)], factor_CV[: len(h_CH)]
        torch.mm(h_CH, w_VH.t(), out=f_CV)
        if bias_V is not None:
            torch.add(rounded(f_CV), bias_V, out=z_CV)
        elif bfloat16:
            z_CV.copy_(rounded(f_CV))
        z_CV -= z_CV.amax(1, keepdim=True)
        own_C1 = z_CV.gather(1, target_C1)
        sum_C1 = z_CV.exp_().sum(1, keepdim=True)
        loss_N[part] = (sum_C1.log() - own_C1).masked_fill(ignored_C1, 0)[:, 0]
        if gradients is None:
            continue
        dh_NH, dweight_VH, dbias_V = gradients
        z_CV /= sum_C1.masked_fill(ignored_C1, torch.inf)  # the probabilities, 0 in ignored rows
        z_CV.scatter_add_(1, target_C1, ignored_C1.to(z_CV.dtype) - 1)  # minus the target
        if dbias_V is not None:
            dbias_V += z_CV.sum(0)
        f_CV.copy_(z_CV if short else rounded(z_CV))
        dh_NH[part] = torch.mm(f_CV, w_VH)
        if short:
            dweight_VH += torch.mm(f_CV.t(), h_CH)
        else:
            dweight_VH.addmm_(f_CV.t(), h_CH)
    return loss_N.sum()
