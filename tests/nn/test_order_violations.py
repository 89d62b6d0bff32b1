"""Order violations, compiled and in plain torch, against the whole array of differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops import order_violations as order
from lnexp.nn.ops.order_violations import cpu as kernel
from lnexp.nn.ops.order_violations import order_violations
from lnexp.seeding import generator

FORMS = [
    pytest.param("1", marks=pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine"), id="compiled"),
    pytest.param("0", id="plain"),
]
needs_compiler = FORMS[0].marks[0]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way of computing, the plain one in blocks of few images."""
    monkeypatch.setenv("LNEXP_FUSED", request.param)
    monkeypatch.setattr(order, "BLOCK", 100)
    return request.param


def normal(*shape: int, purpose: str = "x", dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose, *shape), dtype=torch.float64).to(dtype)


def inputs(I: int, C: int, D: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return normal(I, D, purpose="images", dtype=dtype), normal(C, D, purpose="captions", dtype=dtype)


def naive(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    return (s_CD - v_ID[:, None]).clamp(min=0).square().sum(2)


def with_gradients(f: Callable[[Tensor, Tensor], Tensor], v_ID: Tensor, s_CD: Tensor, dE_IC: Tensor) -> tuple[Tensor, ...]:
    v_ID, s_CD = v_ID.detach().requires_grad_(), s_CD.detach().requires_grad_()
    E_IC = f(v_ID, s_CD)
    return E_IC.detach(), *torch.autograd.grad(E_IC, (v_ID, s_CD), dE_IC)


SIZES = st.integers(0, 11)


@given(
    I=SIZES, C=SIZES, D=st.integers(0, 150), threads=st.sampled_from((1, 2, 3)), plain=st.booleans(), block=st.integers(0, 999)
)
@settings(max_examples=150, deadline=None)
def test_equals_the_whole_array_at_any_size(I, C, D, threads, plain, block):
    v_ID, s_CD = inputs(I, C, D)
    dE_IC = normal(I, C) * (normal(I, C, purpose="zeros") > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LNEXP_FUSED", "0" if plain else "1")
        patch.setattr(order, "BLOCK", block)
        torch.set_num_threads(threads)
        torch.testing.assert_close(
            with_gradients(order_violations, v_ID, s_CD, dE_IC), with_gradients(naive, v_ID, s_CD, dE_IC), rtol=1e-12, atol=1e-12
        )


def test_several_blocks_of_the_kernel(form):
    v_ID, s_CD, dE_IC = *inputs(67, 91, 530), normal(67, 91)
    expected, actual = (with_gradients(f, v_ID, s_CD, dE_IC) for f in (naive, order_violations))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_function(form):
    leaves = [t.requires_grad_() for t in inputs(3, 5, 19)]
    assert torch.autograd.gradcheck(order_violations, leaves)


def test_float32_is_as_exact_as_float32_allows(form):
    v_ID, s_CD, dE_IC = *inputs(21, 35, 1024), normal(21, 35)
    exact = with_gradients(order_violations, v_ID, s_CD, dE_IC)
    ours = with_gradients(order_violations, v_ID.float(), s_CD.float(), dE_IC.float())
    for e, a in zip(exact, ours, strict=True):
        assert a.dtype == torch.float32
        assert (a - e).norm() < 1e-6 * e.norm()


def test_the_kernel_is_used_where_asked_for(form, monkeypatch):
    used = []
    monkeypatch.setattr(kernel, "execute", lambda direction, *_, **__: used.append(direction))
    with_gradients(order_violations, *inputs(3, 4, 5), normal(3, 4))
    assert used == (["forward", "backward"] if form == "1" else [])


@pytest.mark.parametrize("layout", ["transposed", "every other", "one for all", "rows apart"])
def test_any_layout(form, layout):
    def laid_out(rows: int, columns: int, purpose: str) -> Tensor:
        return {
            "transposed": normal(columns, rows, purpose=purpose).t(),
            "every other": normal(rows, 2 * columns, purpose=purpose)[:, ::2],
            "one for all": normal(1, columns, purpose=purpose).expand(rows, columns),
            "rows apart": normal(rows, columns + 3, purpose=purpose)[:, 2:-1],
        }[layout]

    given_ones = laid_out(5, 21, "images"), laid_out(7, 21, "captions"), laid_out(5, 7, "gradient")
    torch.testing.assert_close(with_gradients(order_violations, *given_ones), with_gradients(naive, *given_ones))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 150])  # in whole vectors, and in the lanes at the end of a row
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_goes_through_and_no_further(form, dtype, place, value):
    v_ID, s_CD = inputs(5, 6, 151, dtype)
    s_CD[4, place] = value
    E_IC, dv_ID, ds_CD = with_gradients(order_violations, v_ID, s_CD, torch.ones(5, 6, dtype=dtype))
    assert torch.equal(E_IC.isfinite(), (torch.arange(6) != 4).expand(5, 6))
    torch.testing.assert_close(E_IC, naive(v_ID, s_CD), equal_nan=True)
    assert torch.equal(dv_ID.isfinite(), (torch.arange(151) != place).expand(5, 151))
    assert ds_CD.isfinite().sum() == 6 * 151 - 1 and not ds_CD[4, place].isfinite()


def test_pairs_without_a_gradient_are_skipped(form):
    v_ID, s_CD = inputs(5, 6, 33)
    dE_IC = normal(5, 6) * (normal(5, 6, purpose="zeros") > 0)
    dE_IC[2], dE_IC[:, 4], dE_IC[0, 0] = 0, -0.0, 1
    expected = with_gradients(naive, v_ID, s_CD, dE_IC)
    poisoned_ID, poisoned_CD = v_ID.clone(), s_CD.clone()
    poisoned_ID[2], poisoned_CD[4] = float("nan"), float("inf")
    actual = with_gradients(order_violations, poisoned_ID, poisoned_CD, dE_IC)
    torch.testing.assert_close(actual[1:], expected[1:])
    assert not actual[1][2].any() and not actual[2][4].any()


def test_a_gradient_that_is_not_a_number_is_not_skipped(form):
    v_ID, s_CD, dE_IC = *inputs(4, 3, 20), torch.zeros(4, 3, dtype=torch.float64)
    dE_IC[1, 2] = float("nan")
    _, dv_ID, ds_CD = with_gradients(order_violations, v_ID, s_CD, dE_IC)
    assert dv_ID[1].isnan().all() and ds_CD[2].isnan().all()
    assert not dv_ID[[0, 2, 3]].any() and not ds_CD[:2].any()


@needs_compiler
def test_the_number_of_threads_changes_nothing():
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(with_gradients(order_violations, *inputs(37, 41, 150, torch.float32), normal(37, 41, dtype=torch.float32)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_one_gradient_alone(form):
    v_ID, s_CD = inputs(4, 6, 9)
    _, dv_ID, ds_CD = with_gradients(naive, v_ID, s_CD, torch.ones(4, 6, dtype=torch.float64))
    for leaf, expected in ((v_ID, dv_ID), (s_CD, ds_CD)):
        leaf.requires_grad_()
        order_violations(v_ID, s_CD).sum().backward()
        torch.testing.assert_close(leaf.grad, expected)
        leaf.requires_grad_(False)


def test_inside_a_compiled_model(monkeypatch):
    monkeypatch.setattr(order, "BLOCK", 100)
    monkeypatch.setattr(kernel, "execute", None)  # whoever called it would fail
    torch._dynamo.reset()
    whole = torch.compile(order_violations, backend="aot_eager", fullgraph=True)
    given_ones = *inputs(7, 4, 5), normal(7, 4)
    torch.testing.assert_close(with_gradients(whole, *given_ones), with_gradients(naive, *given_ones))


@pytest.mark.parametrize(
    ("v_ID", "s_CD", "said"),
    [
        (torch.zeros(3, 4), torch.zeros(2, 5), r"v_ID=\(3, 4\), s_CD=\(2, 5\): must be \[I, D\] and \[C, D\]"),
        (torch.zeros(4), torch.zeros(2, 4), r"v_ID=\(4,\), s_CD=\(2, 4\)"),
        (torch.zeros(3, 4), torch.zeros(1, 2, 4), r"s_CD=\(1, 2, 4\)"),
        (torch.zeros(3, 4), torch.zeros(2, 4).double(), "s_CD=torch.float64 on cpu: must both be"),
        (torch.zeros(3, 4).long(), torch.zeros(2, 4).long(), "v_ID=torch.int64"),
        (torch.zeros(3, 4), torch.zeros(2, 4, device="meta"), "s_CD=torch.float32 on meta"),
    ],
)
def test_arguments_that_do_not_go_together_are_named(v_ID, s_CD, said):
    with pytest.raises(ValueError, match=said) as error:
        order_violations(v_ID, s_CD)
    assert "\n" not in str(error.value)
