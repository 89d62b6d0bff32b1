"""The compiled kernels against the reference: values, gradients, options, memory, and the cache of compiled code."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.recurrent import cpu
from lnexp.nn.ops.recurrent import cpu_call as call
from lnexp.nn.ops.recurrent import reference as oracle
from lnexp.nn.ops.recurrent import run as run_layer
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Output, Stats, Weights
from lnexp.nn.ops.recurrent.workspace import SMALLEST, Workspace

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine")

CELLS = [
    Cell(kind, norm, placement=placement, nonlinearity=nonlinearity)
    for kind, norm in product(GATES, ("none", "ln", "rms"))
    for placement, nonlinearity in (
        ("all_gates", "tanh"),
        ("per_gate", "tanh"),
        ("cell_only", "tanh"),
        ("gates_only", "tanh"),
        ("all_gates", "relu"),
    )
    if (placement not in ("cell_only", "gates_only") or (kind == "lstm" and norm != "none"))
    and (nonlinearity == "tanh" or kind == "rnn")
    and (placement != "per_gate" or (norm != "none" and kind != "rnn"))
]


def fits(*given) -> bool:
    return cpu.fits(Inputs(*given))


def fused(*given, **more) -> Output:
    return cpu.fused(Inputs(*given, **more))


def reference(*given, **more) -> Output:
    return oracle.reference(Inputs(*given, **more))


BATCH = Cell("lstm", "bn")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def name_of(cell: Cell) -> str:
    return "-".join([cell.kind, cell.norm, cell.placement, cell.nonlinearity])


def make(cell: Cell, T: int, B: int, I: int, H: int, dtype=torch.float64, biases: bool = True, bias_in: bool = True):
    """Weights, x, h0 and c0 with random values; every parameter that the cell can have."""
    G = GATES[cell.kind] * H

    def normal(*shape, scale=1.0, about=0.0):
        return (about + scale * torch.randn(*shape, dtype=torch.float64)).to(dtype)

    gates, cells = cell.gates_norm != "none", cell.kind == "lstm" and cell.cell_norm != "none"
    w = Weights(
        weight_ih=normal(G, I, scale=I**-0.5),
        weight_hh=normal(G, H, scale=H**-0.5),
        bias_ih=normal(G, scale=0.1) if biases else None,
        bias_hh=normal(G, scale=0.1) if biases else None,
        bias_in=normal(G, scale=0.1) if bias_in else None,
        gain_ih=normal(G, scale=0.1, about=1) if gates and cell.kind != "rnn" else None,
        gain_hh=normal(G, scale=0.1, about=1) if gates else None,
        gain_c=normal(H, scale=0.1, about=1) if cells else None,
        bias_c=normal(H, scale=0.1) if cells and biases else None,
    )
    return w, normal(T, B, I), normal(B, H), normal(B, H) if cell.kind == "lstm" else None


def run(implementation, cell, w, x, h, c, lengths, dtype=torch.float64):
    """Outputs and the gradients of a fixed random combination of all of them."""
    leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in (x, h, c, *w)]
    result = implementation(cell, Weights(*leaves[3:]), *leaves[:3], lengths)
    outputs = [t for t in result[:3] if t is not None]
    noise = torch.Generator().manual_seed(1)
    loss = sum((t * torch.randn(t.shape, generator=noise, dtype=torch.float64).to(dtype)).sum() for t in outputs)
    return outputs, torch.autograd.grad(loss, [t for t in leaves if t is not None])


def assert_equal(expected, actual, tolerance):
    for e, a in zip((*expected[0], *expected[1]), (*actual[0], *actual[1]), strict=True):
        torch.testing.assert_close(a.double(), e.double(), rtol=tolerance, atol=tolerance * max(1.0, e.abs().max().item()))


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
@pytest.mark.parametrize("lengths", [None, (3, 1, 2)])
def test_gradients_are_those_of_the_function(cell, lengths):
    w, x, h, c = make(cell, T=3, B=3, I=2, H=3)
    given_leaves = [t.requires_grad_() for t in (x, h, c, *w) if t is not None]

    def function(*leaves):
        rest = iter(leaves)
        x_, h_, c_, *w_ = (None if t is None else next(rest) for t in (x, h, c, *w))
        lengths_B = None if lengths is None else torch.tensor(lengths)
        return tuple(t for t in fused(cell, Weights(*w_), x_, h_, c_, lengths_B)[:3] if t is not None)

    assert torch.autograd.gradcheck(function, given_leaves, eps=1e-6, atol=1e-6)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_equals_the_reference_at_any_shape(data):
    cell = data.draw(st.sampled_from(CELLS))
    T, B, I, H = (data.draw(st.integers(1, most), label=name) for name, most in zip("TBIH", (12, 19, 40, 37), strict=True))
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    lengths_B = None if lengths is None else torch.tensor(lengths)
    torch.manual_seed(data.draw(st.integers(0, 99), label="seed"))
    inputs = make(cell, T, B, I, H, biases=data.draw(st.booleans(), label="biases"), bias_in=data.draw(st.booleans(), label="in"))
    torch.set_num_threads(data.draw(st.sampled_from((1, 2, 3)), label="threads"))
    expected = run(reference, cell, *inputs, lengths_B)
    assert_equal(expected, run(fused, cell, *inputs, lengths_B), 1e-9)
    assert_equal(expected, run(fused, cell, *inputs, lengths_B, torch.float32), 2e-3)
    with torch.no_grad():
        for e, a in zip(expected[0], fused(cell, *inputs, lengths_B)[:3], strict=False):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_float32_is_as_exact_as_float32_allows(cell):
    inputs = make(cell, T=6, B=5, I=24, H=40)
    exact = run(reference, cell, *inputs, None)
    eager = run(reference, cell, *inputs, None, torch.float32)
    ours = run(fused, cell, *inputs, None, torch.float32)

    def error(result):
        pairs = zip((*exact[0], *exact[1]), (*result[0], *result[1]), strict=True)
        return max(((a.double() - e).norm() / e.norm()).item() for e, a in pairs)

    assert error(ours) < 3 * error(eager) + 1e-6


@pytest.mark.parametrize("cell", [Cell("lstm", "ln"), Cell("lstm", "none"), Cell("gru", "ln"), Cell("rnn", "ln")], ids=name_of)
def test_several_chunks_of_steps(cell):
    rows = call.BACKWARD_ROWS
    inputs = make(cell, T=rows // 32 * 2 + 5, B=33, I=3, H=5)
    lengths_B = torch.randint(1, inputs[1].shape[0] + 1, (33,))
    for lengths in (None, lengths_B):
        assert_equal(run(reference, cell, *inputs, lengths), run(fused, cell, *inputs, lengths), 1e-8)


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_two_backward_passes_through_one_graph_agree(cell):
    w, x, h, c = make(cell, T=5, B=3, I=4, H=9)
    leaves = [t.requires_grad_() for t in (x, h, c, *w) if t is not None]
    out = fused(cell, w, x, h, c, None)
    first = torch.autograd.grad(out.out_TBH.sin().sum(), leaves, retain_graph=True, allow_unused=True)
    torch.autograd.grad(out.h_BH.sum(), leaves, retain_graph=True, allow_unused=True)
    again = torch.autograd.grad(out.out_TBH.sin().sum(), leaves, allow_unused=True)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_one_layer_used_twice_in_one_graph():
    cell = Cell("gru", "ln")
    w, x, h, _ = make(cell, T=4, B=3, I=6, H=6)

    def twice(implementation):
        leaves = [t.detach().requires_grad_() for t in w if t is not None]
        used = Weights(*(None if t is None else leaves[i] for i, t in enumerate(w[:7])))
        once = implementation(cell, used, x, h, None, None)
        loss = implementation(cell, used, once.out_TBH, once.h_BH, None, None).out_TBH.square().sum()
        return torch.autograd.grad(loss, leaves)

    for a, b in zip(twice(reference), twice(fused), strict=True):
        torch.testing.assert_close(a, b)


def test_an_output_that_was_overwritten_is_noticed():
    cell = Cell("gru", "ln")
    w, x, h, _ = make(cell, T=3, B=2, I=3, H=4)
    x.requires_grad_()
    out = fused(cell, w, x, h, None, None).out_TBH
    out.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("layout", ["batch first", "every other feature", "expanded"])
def test_any_layout_of_input_and_of_gradient(layout):
    cell = Cell("lstm", "ln")
    w, x, h, c = make(cell, T=5, B=4, I=6, H=7)
    x = {
        "batch first": torch.randn(4, 5, 6, dtype=x.dtype).transpose(0, 1),
        "every other feature": torch.randn(5, 4, 12, dtype=x.dtype)[..., ::2],
        "expanded": torch.randn(5, 1, 6, dtype=x.dtype).expand(5, 4, 6),
    }[layout]
    h, c = h.t().contiguous().t(), c[:1].expand(4, 7)

    def gradients(implementation):
        leaves = [t.detach().requires_grad_() for t in (x, h, c)]
        out = implementation(cell, w, *leaves, None).out_TBH
        outer = torch.arange(4.0, dtype=x.dtype)[None, :, None].expand(5, 4, 7)  # strides 0, 1, 0
        return out, torch.autograd.grad(out, leaves, outer)

    (expected, expected_grads), (actual, actual_grads) = gradients(reference), gradients(fused)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(actual_grads, expected_grads)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(("T", "B"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_do(kind, T, B):
    cell = Cell(kind, "ln")
    w, x, h, c = make(cell, T, B, I=2, H=4)
    h.requires_grad_()
    for t in w[:4]:
        t.requires_grad_()
    result = run_layer(Inputs(cell, w, x, h, c))
    assert result.out_TBH.shape == (T, B, 4)
    assert torch.equal(result.h_BH, h)
    (result.h_BH.sum() + result.out_TBH.sum()).backward()
    assert torch.equal(h.grad, torch.ones(B, 4, dtype=h.dtype))
    assert all(torch.equal(t.grad, torch.zeros_like(t)) for t in w[:4])  # as torch's layers: zero, not None


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", [0, 2])  # in whole vectors, and in the lanes at the end of a row
def test_a_nan_reaches_its_own_case_and_no_other(cell, dtype, case):
    w, x, h, c = make(cell, T=4, B=3, I=5, H=19, dtype=dtype)
    x[1, case, 0] = float("nan")
    out = fused(cell, w, x, h, c, None).out_TBH
    assert out[1:, case].isnan().all()
    others = [b for b in range(3) if b != case]
    assert out[:, others].isfinite().all() and out[0].isfinite().all()


@pytest.mark.parametrize("cell", [c for c in CELLS if c.norm == "none" and c.nonlinearity == "tanh"], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_gates(cell, dtype):
    w, x, h, c = make(cell, T=2, B=2, I=1, H=3, dtype=dtype)
    w.weight_ih.copy_(w.weight_ih.sign())
    for size in (1e2, 1e4, float("inf")):
        big = torch.full_like(x, size)
        torch.testing.assert_close(fused(cell, w, big, h, c, None), reference(cell, w, big, h, c, None))


def test_padding_is_never_read():
    cell = Cell("lstm", "ln")
    w, x, h, c = make(cell, T=6, B=4, I=3, H=5)
    lengths_B = torch.tensor([2, 6, 1, 4])
    poisoned = x.clone()
    for b, length in enumerate(lengths_B):
        poisoned[length:, b] = float("nan")
    poisoned.requires_grad_()
    result = fused(cell, w, poisoned, h, c, lengths_B)
    for expected, actual in zip(reference(cell, w, x, h, c, lengths_B)[:3], result[:3], strict=True):
        torch.testing.assert_close(actual, expected)
    (dx,) = torch.autograd.grad(result.out_TBH.sum(), poisoned)
    assert all((dx[length:, b] == 0).all() for b, length in enumerate(lengths_B)) and dx.isfinite().all()


@pytest.mark.parametrize("cell", [Cell("gru", "ln"), Cell("lstm", "ln"), Cell("lstm", "none"), BATCH], ids=name_of)
@pytest.mark.parametrize(("H", "B"), [(33, 6), (210, 6), (210, 1), (190, 3)])  # large and few: columns are shared out, not cases
@pytest.mark.parametrize("I", [1, 5])
def test_the_number_of_threads_does_not_change_the_outputs(cell, H, B, I):
    if cell.norm == "bn" and B == 1:
        pytest.skip("no variance in one case")
    inputs = make(cell, T=7, B=B, I=I, H=H, dtype=torch.float32)
    lengths_B = torch.randint(1, 8, (B,))
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        outputs, gradients = run(fused, cell, *inputs, lengths_B, torch.float32)
        results.append([*outputs, *gradients[: 2 if cell.kind == "gru" else 3]])  # of x and the states
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("cell", [Cell("gru", "ln"), Cell("lstm", "rms"), Cell("rnn", "ln"), BATCH], ids=name_of)
def test_columns_shared_out_among_threads(cell):
    inputs = make(cell, T=4, B=5, I=3, H=370 if cell.kind == "rnn" else 210)
    lengths_B = torch.tensor([4, 1, 3, 4, 2])
    expected = run(reference, cell, *inputs, lengths_B)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert_equal(expected, run(fused, cell, *inputs, lengths_B), 1e-8)


def test_fits_says_no_to_what_the_kernels_do_not_do():
    cell = Cell("gru", "ln")
    w, x, _, _ = make(cell, T=2, B=2, I=2, H=2)
    h = torch.zeros(2, 2, dtype=x.dtype)
    assert fits(cell, w, x, h)
    assert not fits(cell, w, x.float(), h)  # two types at once
    assert not fits(cell, Weights(*(None if t is None else t.half() for t in w)), x.half(), h.half())
    assert not fits(Cell("gru", "bn"), w, x, h)
    assert not fits(Cell("lstm", "bn", placement="cell_only"), w, x, h, h)
    assert not fits(Cell("lstm", "bn", placement="gates_only"), w, x, h, h)
    assert not fits(Cell("lstm", "ln", placement="carried_cell"), w, x, h, h)
    assert not fits(cell, w, x.to("meta"), h)


def test_arguments_that_do_not_go_together_are_named():
    cell = Cell("lstm", "ln")
    w, x, h, c = make(cell, T=3, B=2, I=4, H=5)
    wrong = {
        "h0_BH": lambda: fused(cell, w, x, h[:1], c, None),
        "c0_BH": lambda: fused(cell, w, x, h, None, None),
        "weight_ih": lambda: fused(cell, w, x[..., :3], h, c, None),
        "no kernel fits": lambda: fused(cell, w, x.half(), h, c, None),
        "gain_c": lambda: fused(cell, w._replace(gain_c=w.gain_hh), x, h, c, None),
        "bias_hh": lambda: fused(cell, w._replace(bias_hh=w.bias_c), x, h, c, None),
        "mean_ih": lambda: fused(BATCH, w, x, h, c, None, population(2, 5)),
        r"lengths_B=\[3, 4\]: each must be 1 to 3": lambda: fused(cell, w, x, h, c, torch.tensor([3, 4])),
        "torch.int32": lambda: fused(cell, w, x, h, c, torch.tensor([3, 3], dtype=torch.int32)),
    }
    for named, call_it in wrong.items():
        with pytest.raises(ValueError, match=named):
            call_it()


@pytest.mark.parametrize("threads", [(1, 4), (4, 1)])
def test_threads_may_change_between_the_passes(threads):
    cell = Cell("lstm", "ln")
    w, x, h, c = make(cell, T=70, B=40, I=2, H=5)
    x.requires_grad_()
    gradients = []
    for forward, backward in (threads, (1, 1)):
        torch.set_num_threads(forward)
        out = fused(cell, w, x, h, c, None).out_TBH
        torch.set_num_threads(backward)
        gradients.append(torch.autograd.grad(out.square().sum(), x)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_buffers_return_only_when_nobody_looks_at_them():
    pool = Workspace()
    a = pool.empty((2, SMALLEST), torch.float32)
    view, where = a[1], a.data_ptr()
    del a
    b = pool.empty((2, SMALLEST), torch.float32)
    assert b.data_ptr() != where  # the view still looks at it
    del view
    assert pool.idle_bytes() >= 8 * SMALLEST
    assert pool.empty((2, SMALLEST), torch.float32).data_ptr() == where


SMALL_RUN = (
    "import torch; from lnexp.nn.ops.recurrent.dispatch import fits, run;"
    "from lnexp.nn.ops.recurrent.interface import Cell, Inputs, Weights;"
    "w = Weights(torch.ones(8, 3), torch.ones(8, 2)); x = torch.ones(2, 1, 3); h = torch.zeros(1, 2);"
    "inputs = Inputs(Cell('lstm', 'none'), w, x, h, h); print(fits(inputs), run(inputs).out_TBH.sum().item() > 0)"
)


def in_new_process(folder, **environment):
    env = {**os.environ, "LNEXP_CACHE": str(folder), **environment}
    return subprocess.run([sys.executable, "-c", SMALL_RUN], env=env, capture_output=True, text=True, check=True)


def test_compiled_once_and_found_again(tmp_path):
    first = in_new_process(tmp_path)
    assert first.stdout.split() == ["True", "True"]
    assert first.stderr.count("\n") == 1 and "compiling" in first.stderr
    (kernels,) = tmp_path.iterdir()
    second = in_new_process(tmp_path)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert list(tmp_path.iterdir()) == [kernels]


@pytest.mark.parametrize("compiler", ["false", "/nowhere/c++"])
def test_without_a_compiler_everything_goes_on(tmp_path, compiler):
    done = in_new_process(tmp_path, CXX=compiler)
    assert done.stdout.split() == ["False", "True"]
    assert done.stderr.count("\n") == 1 and "without their compiled kernels" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails(tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit 0\necho "sorry" >&2\nexit 1\n')
    compiler.chmod(0o755)
    done = in_new_process(tmp_path / "cache", CXX=str(compiler))
    assert done.stdout.split() == ["False", "True"]
    assert done.stderr.count("\n") == 2 and "sorry" in done.stderr  # the announcement, then the reason
    assert list((tmp_path / "cache").iterdir()) == []


def population(T: int, H: int) -> Stats:
    return Stats(*(torch.rand(T, n, dtype=torch.float64) + 0.1 for n in (4 * H, 4 * H, 4 * H, 4 * H, H, H)))


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_batch_normalisation_equals_the_reference(data):
    T, I = (data.draw(st.integers(1, most), label=name) for name, most in (("T", 8), ("I", 40)))
    B, H = data.draw(st.integers(2, 19), label="B"), data.draw(st.integers(1, 37), label="H")
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    lengths_B = None if lengths is None else torch.tensor(lengths)
    torch.manual_seed(data.draw(st.integers(0, 99), label="seed"))
    w, x, h, c = make(BATCH, T, B, I, H, bias_in=data.draw(st.booleans(), label="in"))
    stats = population(T, H) if data.draw(st.booleans(), label="population") else None
    torch.set_num_threads(data.draw(st.sampled_from((1, 2, 3)), label="threads"))
    expected, actual = (
        run(partial(implementation, stats=stats), BATCH, w, x, h, c, lengths_B) for implementation in (reference, fused)
    )
    assert_equal(expected, actual, 1e-7)
    measured, ours = (implementation(BATCH, w, x, h, c, lengths_B, stats).stats for implementation in (reference, fused))
    assert (measured is None) == (ours is None) == (stats is not None)
    if stats is None:
        torch.testing.assert_close(ours, measured, rtol=1e-9, atol=1e-9)
        assert not any(t.requires_grad for t in ours)


@pytest.mark.parametrize("evaluating", [False, True])
def test_gradients_of_batch_normalisation(evaluating):
    w, x, h, c = make(BATCH, T=3, B=4, I=2, H=3)
    stats = population(3, 3) if evaluating else None
    leaves = [t.requires_grad_() for t in (x, h, c, *w) if t is not None]

    def function(x_, h_, c_, *w_):
        return fused(BATCH, Weights(*w_), x_, h_, c_, torch.tensor([3, 2, 1, 3]), stats)[:3]

    assert torch.autograd.gradcheck(function, leaves, eps=1e-6, atol=1e-5)


def test_batch_normalisation_without_variance_is_finite():
    w, x, h, c = make(BATCH, T=4, B=3, I=2, H=5, dtype=torch.float32)
    h, c = torch.zeros_like(h), torch.zeros_like(c)
    leaves = [t.requires_grad_() for t in (x, h, c, *w) if t is not None]
    result = fused(BATCH, Weights(*leaves[3:]), *leaves[:3], torch.tensor([3, 1, 1]))  # one case alone, then none
    gradients = torch.autograd.grad(result.out_TBH.sum(), leaves)
    assert all(t.isfinite().all() for t in (*result[:3], *result.stats, *gradients))


def test_output_type():
    cell = Cell("rnn", "ln")
    result = fused(cell, *make(cell, T=2, B=2, I=2, H=2), None)
    assert isinstance(result, Output) and result.c_BH is None and result.stats is None
