"""The chunked softmax against torch's own linear layer and cross-entropy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lnexp.nn.ops import cross_entropy as softmax
from lnexp.nn.ops.cross_entropy import LIMIT, linear_cross_entropy

N, H, V = 13, 5, 31


def drawn(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = (N, H), (V, H), (V,)
    inputs = [(scale * torch.randn(*s, generator=random, dtype=dtype)).requires_grad_() for s in shapes]
    return inputs, torch.randint(V, (N,), generator=random)


def plain(h_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, target_N: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(h_NH, weight_VH, bias_V), target_N, reduction="sum")


@pytest.mark.parametrize("rows", [1, 4, N, 100])
def test_loss_and_gradients_equal_torchs(rows: int) -> None:
    inputs, target_N = drawn()
    wanted = plain(*inputs, target_N)
    loss = linear_cross_entropy(*inputs, target_N, limit=rows * V * 8)
    torch.testing.assert_close(loss, wanted)
    for got, right in zip(torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * wanted, inputs), strict=True):
        torch.testing.assert_close(got, right)


def test_gradients_agree_with_finite_differences() -> None:
    inputs, target_N = drawn()
    assert torch.autograd.gradcheck(lambda *given: linear_cross_entropy(*given, target_N, limit=5 * V * 8), inputs)


def test_float32_with_large_logits() -> None:
    """Logits of several hundred overflow a softmax that does not subtract the largest."""
    inputs, target_N = drawn(torch.float32, scale=12.0)
    exact = plain(*(t.double() for t in inputs), target_N)
    assert F.linear(*inputs).abs().max() > 200
    torch.testing.assert_close(linear_cross_entropy(*inputs, target_N).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("instructions", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bfloat16_products_are_as_good_as_their_rounding(
    dtype: torch.dtype, instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """h, W and each logit have 8 bits left, good for a hundredth of a gradient; nothing more is lost in the sums."""
    monkeypatch.setattr(softmax, "multiplies_bfloat16", lambda device: instructions)
    inputs, target_N = drawn(dtype)
    wanted = plain(*inputs, target_N)
    loss = linear_cross_entropy(*inputs, target_N, limit=4 * V * 10, bfloat16=True)
    assert loss.dtype == dtype
    torch.testing.assert_close(loss, wanted, rtol=3e-3, atol=0)
    for got, right in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(wanted, inputs), strict=True):
        assert got.dtype == dtype
        assert 0 < (got - right).norm() / right.norm() < 0.01


def test_bfloat16_is_the_same_with_instructions_for_it_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the last rounding of the gradients of a chunk."""
    inputs, target_N = drawn(torch.float32)
    results = []
    for instructions in (True, False):
        monkeypatch.setattr(softmax, "multiplies_bfloat16", lambda device, instructions=instructions: instructions)
        loss = linear_cross_entropy(*inputs, target_N, limit=4 * V * 6, bfloat16=True)
        results.append((loss.detach(), *torch.autograd.grad(loss, inputs)))
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() / a.norm() < 2**-8


def test_a_graph_can_be_walked_twice() -> None:
    inputs, target_N = drawn()
    loss = linear_cross_entropy(*inputs, target_N)
    first = torch.autograd.grad(2 * loss, inputs, retain_graph=True)
    second = torch.autograd.grad(loss, inputs)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, 2 * b)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made inside the block, views of others left out."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_no_tensor_is_larger_than_the_limit_allows() -> None:
    inputs, target_N = drawn()
    with Largest() as seen:
        linear_cross_entropy(*inputs, target_N, limit=6 * V * 8).backward()
    assert seen.elements == max(6 * V, N * H, V * H)
    with Largest() as seen:
        plain(*inputs, target_N).backward()
    assert seen.elements == N * V


def test_bfloat16_takes_no_more_bytes_either() -> None:
    inputs, target_N = drawn()
    with Largest() as seen:
        linear_cross_entropy(*inputs, target_N, limit=6 * V * 10, bfloat16=True).backward()
    assert seen.elements == max(6 * V, N * H, V * H)


def test_without_gradients_none_is_computed() -> None:
    inputs, target_N = drawn()
    with torch.no_grad(), Largest() as seen:
        loss = linear_cross_entropy(*inputs, target_N, limit=V * 8)
    torch.testing.assert_close(loss, plain(*inputs, target_N).detach())
    assert not loss.requires_grad
    assert seen.elements == V


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_without_bias_and_with_rows_that_do_not_count(ignore_index: int, bfloat16: bool) -> None:
    (h_NH, weight_VH, _), target_N = drawn()
    target_N[::3] = ignore_index
    wanted = F.cross_entropy(F.linear(h_NH, weight_VH), target_N, ignore_index=ignore_index, reduction="sum")
    loss = linear_cross_entropy(h_NH, weight_VH, None, target_N, 4 * V * 10, bfloat16=bfloat16, ignore_index=ignore_index)
    tolerance = {"rtol": 0.01, "atol": 0.02} if bfloat16 else {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(loss, wanted, **tolerance)
    found, right = (torch.autograd.grad(value, (h_NH, weight_VH)) for value in (loss, wanted))
    torch.testing.assert_close(found, right, **tolerance)
    assert not found[0][::3].any()
    with torch.no_grad():
        torch.testing.assert_close(
            linear_cross_entropy(h_NH, weight_VH, None, target_N, ignore_index=ignore_index), wanted.detach()
        )


def test_no_rows() -> None:
    inputs, target_N = drawn()
    h_0H = inputs[0][:0].detach().requires_grad_()
    loss = linear_cross_entropy(h_0H, *inputs[1:], target_N[:0])
    loss.backward()
    assert loss == 0
    assert inputs[1].grad is not None and not inputs[1].grad.any()


def test_what_does_not_fit_is_named() -> None:
    inputs, target_N = drawn()
    with pytest.raises(ValueError, match=r"must be \(N, H\), \(V, H\), \(V,\) or None, \(N,\)"):
        linear_cross_entropy(*inputs, target_N[1:])
    with pytest.raises(ValueError, match=r"must all be float32 \(or .*\) or all float64"):
        linear_cross_entropy(inputs[0].float(), *inputs[1:], target_N)
    with pytest.raises(RuntimeError, match="out of bounds"):
        linear_cross_entropy(*inputs, target_N + V)


def test_the_usual_limit_takes_hundreds_of_rows_of_the_papers_vocabulary() -> None:
    assert 500 < LIMIT // (20_000 * 4) < 1_000
