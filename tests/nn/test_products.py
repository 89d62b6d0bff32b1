"""products="bfloat16": the kernels against the reference, which rounds the same factors; what is refused; what warns."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

import lnexp.nn as ours
from lnexp.nn.ops.recurrent import cpu, dispatch
from lnexp.nn.ops.recurrent.interface import Cell, Inputs
from lnexp.nn.ops.recurrent.reference import product
from tests.nn.test_cpu import BATCH, CELLS, fused, make, name_of, reference, run

needs_instructions = pytest.mark.skipif(not cpu.has_bfloat16_products(), reason="no avx512_bf16, or no compiler")
CELLS = [replace(cell, products="bfloat16") for cell in (*CELLS, BATCH)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def error(expected, actual) -> float:
    """The largest relative error of any output or gradient."""
    pairs = zip((*expected[0], *expected[1]), (*actual[0], *actual[1]), strict=True)
    return max(((a.double() - e.double()).norm() / e.double().norm()).item() for e, a in pairs)


@needs_instructions
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
@pytest.mark.parametrize(("T", "B", "I", "H"), [(1, 1, 1, 3), (1, 5, 3, 7), (1, 9, 33, 50), (5, 11, 24, 43), (3, 4, 70, 64)])
def test_kernels_round_what_the_reference_rounds(cell, T, B, I, H):
    if cell.norm == "bn" and B == 1:
        pytest.skip("no variance in one case")
    inputs = make(cell, T, B, I, H, torch.float32, bias_in=cell.norm != "bn")  # under bn its gradient is 0 but for rounding
    lengths_B = torch.randint(1, T + 1, (B,))
    expected = run(reference, cell, *inputs, lengths_B, torch.float32)
    # A factor at the middle of two bfloat16 may be rounded either way, which is 2^-8 of one term of a sum.
    assert error(expected, run(fused, cell, *inputs, lengths_B, torch.float32)) < 2e-3
    unrounded = run(reference, replace(cell, products="float32"), *inputs, lengths_B, torch.float32)
    assert error(expected, unrounded) > 1e-4  # so that the comparison means something


@needs_instructions
@pytest.mark.parametrize("cell", [Cell("gru", "ln", products="bfloat16"), Cell("lstm", "none", products="bfloat16")], ids=name_of)
@pytest.mark.parametrize("H", [33, 210])  # cases shared out among threads, and columns
def test_the_number_of_threads_changes_nothing(cell, H):
    inputs = make(cell, 6, 5, 7, H, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        outputs, gradients = run(fused, cell, *inputs, None, torch.float32)
        results.append([*outputs, *gradients[: 3 if cell.kind == "lstm" else 2]])  # of x and the states
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_instructions
def test_a_nan_stays_one():
    cell = Cell("gru", "none", products="bfloat16")
    w, x, h, _ = make(cell, T=3, B=3, I=5, H=19, dtype=torch.float32)
    x[1, 2, 0] = float("nan")
    out = fused(cell, w, x, h, None, None).out_TBH
    assert out[1:, 2].isnan().all() and out[:, :2].isfinite().all() and out[0].isfinite().all()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_takes_it_by_name(kind):
    torch.manual_seed(0)
    plain = getattr(ours, kind)(6, 8, num_layers=2, bidirectional=True)
    torch.manual_seed(0)
    reduced = getattr(ours, kind)(6, 8, num_layers=2, bidirectional=True, products="bfloat16")
    assert plain.state_dict().keys() == reduced.state_dict().keys() and "products=bfloat16" in repr(reduced)
    assert plain.cell.products == "float32" and "products" not in repr(plain)
    x = torch.randn(4, 3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        difference = (plain(x)[0] - reduced(x)[0]).abs().max()
    assert 0 < difference < 0.1


def test_what_is_refused():
    with pytest.raises(ValueError, match="products=float16: allowed are float32, bfloat16"):
        ours.GRU(3, 4, products="float16")
    with pytest.raises(ValueError, match=r"products=bfloat16: parameters are torch\.float64"):
        ours.GRU(3, 4, products="bfloat16", dtype=torch.float64)(torch.randn(2, 2, 3, dtype=torch.float64))


def test_without_the_instructions_the_reference_rounds_and_says_so(monkeypatch):
    cell = Cell("lstm", "ln", products="bfloat16")
    inputs = Inputs(cell, *make(cell, T=3, B=4, I=5, H=6, dtype=torch.float32))
    monkeypatch.setattr(cpu, "has_bfloat16_products", lambda: False)
    monkeypatch.setattr(dispatch, "has_bfloat16_products", lambda: False)
    dispatch.warn_of_slow_products.cache_clear()
    with pytest.warns(UserWarning, match="no avx512_bf16"):
        out = dispatch.run(inputs).out_TBH
    dispatch.warn_of_slow_products.cache_clear()
    assert torch.equal(out, reference(*inputs).out_TBH)


@needs_instructions
def test_second_derivatives_are_the_references():
    cell = Cell("gru", "ln", products="bfloat16")
    w, x, h, _ = make(cell, T=2, B=3, I=4, H=5, dtype=torch.float32)
    x.requires_grad_()
    found = []
    for implementation in (reference, fused):
        (dx,) = torch.autograd.grad(implementation(cell, w, x, h).out_TBH.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), x)[0])
    torch.testing.assert_close(found[1], found[0], rtol=2e-2, atol=2e-2 * found[0].abs().max().item())


def test_the_rounding_of_the_reference():
    """Values and gradients of a product are those of rounded factors."""
    cell = Cell("gru", "none", products="bfloat16")
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    d = torch.randn(3, 5)
    a = product(cell, x, weight)
    dx, dweight = torch.autograd.grad(a, (x, weight), d)
    xr, wr, dr = (t.detach().bfloat16().float() for t in (x, weight, d))
    torch.testing.assert_close(a, xr @ wr.t(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dx, dr @ wr, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dweight, dr.t() @ xr, rtol=1e-6, atol=1e-6)
