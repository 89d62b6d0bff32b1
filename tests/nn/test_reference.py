"""The oracle against the paper's supplement written out in NumPy, against finite differences, and against the eager path."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnexp.nn.ops.recurrent import dispatch
from lnexp.nn.ops.recurrent import eager as torch_calls
from lnexp.nn.ops.recurrent import reference as oracle
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Output, Stats, Weights

torch.set_num_threads(1)


def reference(*given) -> Output:
    return oracle.reference(Inputs(*given))


def eager(*given) -> Output:
    return torch_calls.eager(Inputs(*given))


def random_weights(cell: Cell, inputs: int, hidden: int, bias_in: bool = False, bias: bool = True) -> Weights:
    gates, places = GATES[cell.kind] * hidden, cell.places(hidden)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    return Weights(
        draw(gates, inputs),
        draw(gates, hidden),
        bias_ih=draw(gates) if bias else None,
        bias_hh=draw(gates) if bias else None,
        bias_in=draw(gates) if bias_in else None,
        gain_ih=draw(gates) if "ih" in places else None,
        gain_hh=draw(gates) if "hh" in places else None,
        gain_c=draw(hidden) if "c" in places else None,
        bias_c=draw(hidden) if "c" in places and bias else None,
    )


def random_states(cell: Cell, cases: int, hidden: int) -> list[torch.Tensor | None]:
    c = torch.randn(cases, hidden, dtype=torch.float64).requires_grad_() if cell.kind == "lstm" else None
    return [torch.randn(cases, hidden, dtype=torch.float64).requires_grad_(), c]


def layer_norm(z, alpha, beta):
    """Equations (15)-(16), with the authors' eps."""
    return (z - z.mean()) / np.sqrt(((z - z.mean()) ** 2).mean() + 1e-5) * alpha + beta


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def arrays(w: Weights) -> Weights:
    return Weights(*(None if p is None else p.detach().numpy() for p in w))


def test_lstm_is_equations_20_to_22():
    torch.manual_seed(0)
    H, cell = 4, Cell("lstm", "ln")
    w = random_weights(cell, 3, H)
    x_TBI, (h0, c0) = torch.randn(5, 2, 3, dtype=torch.float64), random_states(cell, 2, H)
    out = reference(cell, w, x_TBI, h0, c0, None)
    v = arrays(w)
    paper = np.r_[H : 2 * H, 0:H, 3 * H : 4 * H, 2 * H : 3 * H]  # the paper's order f, i, o, g out of torch's i, f, g, o
    for case in range(2):
        h, c = h0[case].detach().numpy(), c0[case].detach().numpy()
        for t in range(5):
            x = x_TBI[t, case].numpy()
            a = layer_norm(v.weight_hh[paper] @ h, v.gain_hh[paper], v.bias_hh[paper])
            a = a + layer_norm(v.weight_ih[paper] @ x, v.gain_ih[paper], v.bias_ih[paper])
            f, i, o, g = np.split(a, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(layer_norm(c, v.gain_c, v.bias_c))
            np.testing.assert_allclose(out.out_TBH[t, case].detach(), h, rtol=0, atol=1e-12)
        np.testing.assert_allclose(out.c_BH[case].detach(), c, rtol=0, atol=1e-12)
        np.testing.assert_allclose(out.h_BH[case].detach(), h, rtol=0, atol=1e-12)


def test_lstm_of_draw_is_equations_29_to_31():
    torch.manual_seed(0)
    H, cell = 4, Cell("lstm", "ln", placement="cell_only")
    w = random_weights(cell, 3, H)
    x_TBI, (h0, c0) = torch.randn(5, 1, 3, dtype=torch.float64), random_states(cell, 1, H)
    out = reference(cell, w, x_TBI, h0, c0, None)
    v, h, c = arrays(w), h0[0].detach().numpy(), c0[0].detach().numpy()
    for t in range(5):
        i, f, g, o = np.split(v.weight_hh @ h + v.weight_ih @ x_TBI[t, 0].numpy() + v.bias_ih + v.bias_hh, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, v.gain_c, v.bias_c))
        np.testing.assert_allclose(out.out_TBH[t, 0].detach(), h, rtol=0, atol=1e-12)


def test_gru_is_equations_23_to_28():
    torch.manual_seed(0)
    H, cell = 4, Cell("gru", "ln")
    w = random_weights(cell, 3, H)
    x_TBI, (h0, _) = torch.randn(5, 1, 3, dtype=torch.float64), random_states(cell, 1, H)
    out = reference(cell, w, x_TBI, h0, None, None)
    v, h = arrays(w), h0[0].detach().numpy()
    zr, n = np.r_[H : 2 * H, 0:H], np.r_[2 * H : 3 * H]  # the paper's z, r out of torch's r, z
    sign = np.repeat([-1, 1], H)  # torch's z is the paper's 1 - z: its gate has the negative gain and bias
    for t in range(5):
        x = x_TBI[t, 0].numpy()
        a = layer_norm(v.weight_hh[zr] @ h, sign * v.gain_hh[zr], sign * v.bias_hh[zr])
        a = a + layer_norm(v.weight_ih[zr] @ x, sign * v.gain_ih[zr], sign * v.bias_ih[zr])
        z, r = np.split(sigmoid(a), 2)
        inner = layer_norm(v.weight_hh[n] @ h, v.gain_hh[n], v.bias_hh[n])
        candidate = np.tanh(layer_norm(v.weight_ih[n] @ x, v.gain_ih[n], v.bias_ih[n]) + r * inner)
        h = (1 - z) * h + z * candidate
        np.testing.assert_allclose(out.out_TBH[t, 0].detach(), h, rtol=0, atol=1e-12)


def test_rnn_is_equation_4():
    torch.manual_seed(0)
    cell = Cell("rnn", "ln", nonlinearity="relu")
    w = random_weights(cell, 3, 4)
    x_TBI, (h0, _) = torch.randn(5, 1, 3, dtype=torch.float64), random_states(cell, 1, 4)
    out = reference(cell, w, x_TBI, h0, None, None)
    v, h = arrays(w), h0[0].detach().numpy()
    for t in range(5):
        a = v.weight_hh @ h + v.weight_ih @ x_TBI[t, 0].numpy()
        h = np.maximum(layer_norm(a, v.gain_hh, v.bias_ih + v.bias_hh), 0)
        np.testing.assert_allclose(out.out_TBH[t, 0].detach(), h, rtol=0, atol=1e-12)


def test_rms_divides_by_the_root_mean_square():
    cell = Cell("rnn", "rms")
    w = Weights(torch.tensor([[3.0], [4.0]]), torch.zeros(2, 2))
    out = reference(cell, w, torch.ones(1, 1, 1), torch.zeros(1, 2), None, None)
    expected = torch.tensor([3.0, 4.0]) / (12.5 + 1e-5) ** 0.5
    torch.testing.assert_close(out.h_BH[0], expected.tanh())


def test_per_gate_normalises_each_gate_apart():
    torch.manual_seed(0)
    cell = Cell("lstm", "ln", placement="per_gate")
    w = random_weights(cell, 3, 4)
    scaled = w._replace(weight_ih=torch.cat([100 * w.weight_ih[:4], w.weight_ih[4:]]))  # only the input gate's rows
    x_TBI, (h0, c0) = torch.randn(3, 2, 3, dtype=torch.float64), random_states(cell, 2, 4)
    plain = reference(cell, w, x_TBI, h0, c0, None).out_TBH
    torch.testing.assert_close(reference(cell, scaled, x_TBI, h0, c0, None).out_TBH, plain, rtol=0, atol=1e-3)
    fused = Cell("lstm", "ln")
    other = reference(fused, scaled, x_TBI, h0, c0, None).out_TBH - reference(fused, w, x_TBI, h0, c0, None).out_TBH
    assert other.abs().max() > 0.1


def test_gates_only_reads_the_cell_itself_and_carried_cell_carries_its_norm():
    torch.manual_seed(0)
    w = random_weights(Cell("lstm", "ln"), 3, 4)
    x_TBI, (h0, c0) = torch.randn(1, 2, 3, dtype=torch.float64), random_states(Cell("lstm", "ln"), 2, 4)
    paper = reference(Cell("lstm", "ln"), w, x_TBI, h0, c0, None)
    gates = reference(Cell("lstm", "ln", placement="gates_only"), w, x_TBI, h0, c0, None)
    carried = reference(Cell("lstm", "ln", placement="carried_cell"), w, x_TBI, h0, c0, None)
    normal = torch.nn.functional.layer_norm(paper.c_BH, (4,), w.gain_c, w.bias_c, 1e-5)
    torch.testing.assert_close(gates.c_BH, paper.c_BH)
    torch.testing.assert_close(gates.h_BH / gates.c_BH.tanh(), paper.h_BH / normal.tanh())  # one output gate
    torch.testing.assert_close(carried.h_BH, paper.h_BH)
    torch.testing.assert_close(carried.c_BH, normal)


def test_bias_inside_the_input_norm_gives_back_the_magnitude_of_one_input():
    cell = Cell("lstm", "ln", eps=0.0)
    torch.manual_seed(0)
    w = random_weights(cell, 1, 4)
    states = random_states(cell, 1, 4)
    small, large = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (0.1, 10.0))

    def apart(w: Weights) -> float:
        return (reference(cell, w, small, *states, None).h_BH - reference(cell, w, large, *states, None).h_BH).abs().max().item()

    assert apart(w) < 1e-12
    assert apart(w._replace(bias_in=torch.randn(16, dtype=torch.float64))) > 0.01


CELLS = [
    *(Cell(kind, norm) for kind in ("lstm", "gru", "rnn") for norm in ("none", "ln", "rms", "bn")),
    Cell("lstm", "ln", placement="per_gate"),
    Cell("gru", "ln", placement="per_gate"),
    Cell("lstm", "ln", placement="cell_only"),
    Cell("lstm", "bn", placement="cell_only"),
    Cell("lstm", "ln", placement="gates_only"),
    Cell("lstm", "bn", placement="gates_only"),
    Cell("lstm", "ln", placement="carried_cell"),
    Cell("lstm", "bn", placement="carried_cell"),
    Cell("rnn", "ln", nonlinearity="relu"),
]


def results(run, cell, w, x_TBI, states, lengths_B, stats=None) -> tuple[list[torch.Tensor], Stats | None]:
    output: Output = run(cell, w, x_TBI, *states, lengths_B, stats)
    return [t for t in output[:3] if t is not None], output.stats


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_gradients_are_the_finite_differences(cell):
    torch.manual_seed(0)
    w = random_weights(cell, 2, 3, bias_in=cell.gates_norm in ("ln", "rms"))
    x_TBI = torch.randn(3, 4, 2, dtype=torch.float64).requires_grad_()
    inputs = [t for t in [*w, x_TBI, *random_states(cell, 4, 3)] if t is not None]
    present = [p is not None for p in w]

    def layer(*flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        it = iter(flat)
        weights = Weights._make(next(it) if there else None for there in present)
        x, h0, c0 = next(it), next(it), next(it, None)
        return tuple(results(reference, cell, weights, x, [h0, c0], torch.tensor([3, 2, 3, 2]))[0])

    assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)


def assert_same(cell, w, x_TBI, states, lengths_B, stats=None, atol=1e-9):
    """The eager path gives the reference's outputs, statistics and gradients."""
    inputs = [t for t in [*w, x_TBI, *states] if t is not None]
    compared = []
    for run in (reference, eager):
        tensors, seen = results(run, cell, w, x_TBI, states, lengths_B, stats)
        generator = torch.Generator().manual_seed(1)
        pull = sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum() for t in tensors)
        grads = torch.autograd.grad(pull, inputs, allow_unused=True, materialize_grads=True)
        compared.append([*tensors, *grads, *(s for s in seen or () if s is not None)])
    for expected, actual in zip(*compared, strict=True):
        scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=atol)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_eager_is_the_reference(data):
    cell = data.draw(st.sampled_from(CELLS))
    steps, cases, inputs, hidden = (data.draw(st.integers(1, n)) for n in (6, 5, 4, 5))
    # A lone unit, or a lone case, has no spread: its norm multiplies rounding errors by 1 / sqrt(eps), step after step.
    hidden, cases = hidden + 1, cases + 1
    lengths = data.draw(st.none() | st.lists(st.integers(1, steps), min_size=cases, max_size=cases))
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    w = random_weights(cell, inputs, hidden, data.draw(st.booleans()), data.draw(st.booleans()))
    w = Weights(*w[:5], *(None if g is None else g.detach().abs().clamp(0.2, 1).requires_grad_() for g in w[5:8]), w[8])
    x_TBI = torch.randn(steps, cases, inputs, dtype=torch.float64).requires_grad_()
    lengths_B = None if lengths is None else torch.tensor(lengths)
    assert_same(cell, w, x_TBI, random_states(cell, cases, hidden), lengths_B, atol=1e-7)


@pytest.mark.parametrize("cell", [c for c in CELLS if c.norm == "bn"], ids=str)
def test_eager_is_the_reference_in_evaluation(cell):
    torch.manual_seed(0)
    w, states = random_weights(cell, 3, 4), random_states(cell, 5, 4)
    x_TBI = torch.randn(6, 5, 3, dtype=torch.float64).requires_grad_()
    stats = reference(cell, w, torch.randn(6, 5, 3, dtype=torch.float64), *states, None).stats
    assert_same(cell, w, x_TBI, states, torch.tensor([6, 2, 1, 4, 6]), stats)


@pytest.mark.parametrize("run", [reference, eager])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_padding_changes_nothing(run, cell):
    """Whatever stands in the padding, cases come out as without it; unlike cases, under bn, share their statistics."""
    torch.manual_seed(0)
    w, states = random_weights(cell, 3, 4), random_states(cell, 4, 4)
    lengths_B = torch.tensor([2, 5, 3, 5])
    x_TBI = torch.randn(5, 4, 3, dtype=torch.float64)
    dirty_TBI = torch.where((torch.arange(5)[:, None] < lengths_B)[..., None], x_TBI, torch.nan).requires_grad_()
    (out_TBH, h_BH, *_), _ = results(run, cell, w, dirty_TBI, states, lengths_B)
    (out_TBH.sum() + h_BH.sum()).backward()
    assert all(p.grad.isfinite().all() for p in w if p is not None)
    assert (out_TBH[2:, 0] == 0).all()
    assert (dirty_TBI.grad[3:, 2] == 0).all()
    torch.testing.assert_close(h_BH[2], out_TBH[2, 2])
    if cell.norm != "bn":
        for b, n in enumerate(lengths_B.tolist()):
            one = [None if s is None else s[b : b + 1] for s in states]
            (alone, *_), _ = results(run, cell, w, x_TBI[:n, b : b + 1], one, None)
            torch.testing.assert_close(out_TBH[:n, b : b + 1], alone)


@pytest.mark.parametrize("run", [reference, eager])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_no_steps_and_no_cases(run, cell):
    w = random_weights(cell, 3, 4)
    states = random_states(cell, 2, 4)
    run_layer = run if run is reference else (lambda *given: dispatch.run(Inputs(*given)))
    (out_TBH, h_BH, *_), _ = results(run_layer, cell, w, torch.randn(0, 2, 3, dtype=torch.float64), states, None)
    assert out_TBH.shape == (0, 2, 4)
    assert torch.equal(h_BH, states[0])
    (out_TBH, h_BH, *_), _ = results(run, cell, w, torch.randn(3, 0, 3, dtype=torch.float64), random_states(cell, 0, 4), None)
    assert out_TBH.shape == (3, 0, 4)
    assert h_BH.shape == (0, 4)


def test_eager_notices_when_a_state_is_overwritten():
    cell = Cell("gru", "ln")
    w, h0_BH = random_weights(cell, 3, 4), torch.zeros(2, 4, dtype=torch.float64)
    out_TBH = eager(cell, w, torch.randn(3, 2, 3, dtype=torch.float64), h0_BH, None, None).out_TBH
    h0_BH.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out_TBH.sum().backward()


def test_eager_can_be_differentiated_again_and_then_frees_its_states():
    cell = Cell("gru", "ln")
    w, (h0_BH, _) = random_weights(cell, 3, 4), random_states(cell, 2, 4)
    total = eager(cell, w, torch.randn(3, 2, 3, dtype=torch.float64), h0_BH, None, None).out_TBH.sum()
    total.backward(retain_graph=True)
    once = w.weight_hh.grad.clone()
    total.backward()
    torch.testing.assert_close(w.weight_hh.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


def test_the_reference_is_twice_differentiable():
    cell = Cell("lstm", "ln")
    torch.manual_seed(0)
    w, states = random_weights(cell, 2, 3), random_states(cell, 2, 3)
    x_TBI = torch.randn(2, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: reference(cell, w, x, *states, None).out_TBH, x_TBI, fast_mode=True)
