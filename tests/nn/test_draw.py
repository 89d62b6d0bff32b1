"""DRAW, compiled and as equations: equal values and gradients, and nothing that the kernels cannot do reaches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lnexp.nn import NORMS
from lnexp.nn.csrc.build import library
from lnexp.nn.ops.draw import cpu
from lnexp.nn.ops.draw.interface import Windows
from lnexp.nn.ops.draw.reference import filters, glimpses, read, write
from lnexp.tasks.draw.model import DrawNet
from tests.conftest import script

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine")
T, B, H, Z = 3, 4, 9, 5


def network(norm: str = "ln", placement: str = "cell_only", *, H: int = H, Z: int = Z, T: int = T, **windows: int) -> DrawNet:
    """In float64, with all parameters away from their start."""
    torch.manual_seed(0)
    net = DrawNet(
        NORMS[norm](), windows=Windows(**windows), glimpses=T, latents=Z, hidden_size=H, placement=placement, start="wide"
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def batch(net: DrawNet, B: int = B) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x_BD = (torch.rand(B, net.windows.side**2) < 0.3).to(net.attention.bias.dtype)
    return x_BD, net.noise(B)


def results(net: DrawNet, x_BD: Tensor, noise_TBZ: Tensor) -> list[Tensor]:
    """Canvas, posteriors, and the gradients of all parameters of a function of both that weighs all parts differently."""
    torch.manual_seed(2)
    outputs = net(x_BD, noise_TBZ)
    loss = sum((torch.randn_like(output) * output.cos()).sum() for output in outputs)
    return [*(output.detach() for output in outputs), *torch.autograd.grad(loss, list(net.parameters()))]


def both_ways(function: Callable[[], Any]) -> tuple[Any, Any]:
    """The result by the kernels and by the equations."""
    found = []
    for fused in "10":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LNEXP_FUSED", fused)
            found.append(function())
    return found[0], found[1]


def used_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    used: list[str] = []
    execute = cpu.execute
    monkeypatch.setattr(cpu, "execute", lambda name, *rest: (used.append(name), execute(name, *rest))[1])
    return used


@needs_compiler
@pytest.mark.parametrize("norm", ["none", "ln", "rms", "wn"])
@pytest.mark.parametrize("placement", ["cell_only", "all_gates", "per_gate"])
def test_kernels_equal_the_equations(norm: str, placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, used = network(norm, placement), used_kernels(monkeypatch)
    ours, expected = both_ways(lambda: results(net, *batch(net)))
    assert used == ["draw_forward", "draw_backward"]
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@needs_compiler
@given(
    T=st.integers(1, 4), B=st.integers(1, 11), H=st.integers(2, 40), Z=st.integers(1, 30), threads=st.integers(1, 4),
    placement=st.sampled_from(("cell_only", "all_gates")),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_size_and_number_of_threads(T: int, B: int, H: int, Z: int, threads: int, placement: str) -> None:
    net = network("ln", placement, H=H, Z=Z, T=T)
    torch.set_num_threads(threads)
    ours, expected = both_ways(lambda: results(net, *batch(net, B)))
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


@needs_compiler
@pytest.mark.parametrize("placement", ["cell_only", "all_gates"])
def test_gradients_are_those_of_the_function(placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, used = network("ln", placement, H=3, Z=2, T=2), used_kernels(monkeypatch)
    x_BD, noise_TBZ = batch(net, 2)
    names = [name for name, _ in net.named_parameters()]

    def function(*parameters: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x_BD, noise_TBZ))

    assert torch.autograd.gradcheck(function, tuple(net.parameters()), fast_mode=True)
    assert "draw_backward" in used


@needs_compiler
@pytest.mark.parametrize("norm", ["none", "ln", "rms"])
def test_float32_is_as_exact_as_float32_allows(norm: str) -> None:
    net = network(norm, H=32, Z=16)
    x_BD, noise_TBZ = batch(net)
    exact = results(net, x_BD, noise_TBZ)
    weights_of_loss = net.float()
    ours, plain = both_ways(lambda: results(weights_of_loss, x_BD.float(), noise_TBZ.float()))
    for e, o, p in zip(exact[:2], ours[:2], plain[:2], strict=True):  # the loss of the gradients is drawn in the type
        assert o.dtype == torch.float32
        assert (o - e).norm() <= 3 * (p - e).norm() + 1e-6 * e.norm()
    for o, p in zip(ours, plain, strict=True):
        assert (o - p).norm() < 2e-4 * p.norm() + 1e-6


@needs_compiler
def test_without_gradients_the_same_in_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net, rows = network(), []
    forward = cpu.describe
    monkeypatch.setattr(cpu, "describe", lambda inputs, ring: (rows.append(ring), forward(inputs, ring))[1])
    with_graph = [output.detach() for output in net(*batch(net))]
    with torch.no_grad():
        without = list(net(*batch(net)))
    assert rows == [T + 1, 2]
    for a, b in zip(with_graph, without, strict=True):
        assert torch.equal(a, b)


@needs_compiler
def test_derivatives_of_second_order() -> None:
    net = network(H=4, Z=2, T=2)

    def second() -> list[Tensor]:
        loss = sum(output.sin().sum() for output in net(*batch(net, 2)))
        first = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), list(net.parameters())))

    ours, expected = both_ways(second)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


@needs_compiler
def test_backward_twice_and_one_output_alone() -> None:
    net = network()
    parameters = list(net.parameters())
    canvas_BD, posterior_TBP = net(*batch(net))
    twice = [torch.autograd.grad(canvas_BD.sum() + posterior_TBP.sum(), parameters, retain_graph=True) for _ in range(2)]
    alone = [
        torch.autograd.grad(output.sum(), parameters, retain_graph=True, materialize_grads=True)
        for output in (canvas_BD, posterior_TBP)
    ]
    torch.testing.assert_close(twice[0], twice[1], rtol=0, atol=0)
    torch.testing.assert_close(twice[0], tuple(a + b for a, b in zip(*alone, strict=True)))


@needs_compiler
def test_a_weight_that_was_changed_before_the_backward_pass_is_noticed() -> None:
    net = network()
    canvas_BD, _ = net(*batch(net))
    with torch.no_grad():
        net.posterior.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        canvas_BD.sum().backward()


@needs_compiler
def test_tensors_may_be_kept_elsewhere() -> None:
    net = network()
    expected = results(net, *batch(net))
    with torch.autograd.graph.save_on_cpu():
        torch.testing.assert_close(results(net, *batch(net)), expected)
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: t.float(), lambda t: t),
        pytest.raises(RuntimeError, match="a hook on saved tensors returned another shape or type"),
    ):
        results(net, *batch(net))


@needs_compiler
@pytest.mark.parametrize("case", ["bn", "bias_inside", "window", "side", "image", "noise", "LNEXP_FUSED", "bfloat16"])
def test_what_the_kernels_cannot_do_goes_to_the_equations(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"window": {"read": 3}, "side": {"side": 20}}.get(case, {})
    net = network("bn" if case == "bn" else "ln", case if case == "bias_inside" else "cell_only", **sizes)
    used = used_kernels(monkeypatch)
    if case == "bfloat16":
        net = net.bfloat16()
    x_BD, noise_TBZ = batch(net)
    x_BD.requires_grad_(case == "image")
    noise_TBZ.requires_grad_(case == "noise")
    if case == "LNEXP_FUSED":
        monkeypatch.setenv("LNEXP_FUSED", "0")
    canvas_BD, _ = net(x_BD, noise_TBZ)
    canvas_BD.float().square().sum().backward()
    assert not used
    assert net.encoder.weight_ih.grad is not None and net.encoder.weight_ih.grad.isfinite().all()
    for tensor, name in ((x_BD, "image"), (noise_TBZ, "noise")):
        assert (tensor.grad is not None) == (case == name)


def test_the_gradient_of_the_image() -> None:
    net = network(H=3, Z=2, T=2)
    x_BD, noise_TBZ = batch(net, 1)
    assert torch.autograd.gradcheck(lambda x: net(x, noise_TBZ), (x_BD.requires_grad_(),), fast_mode=True)


def test_autocast_changes_nothing() -> None:
    net = network().float()
    expected = results(net, *batch(net))
    with torch.autocast("cpu", torch.bfloat16):
        canvas_BD, posterior_TBP = net(*batch(net))
    assert canvas_BD.dtype == posterior_TBP.dtype == torch.float32
    torch.testing.assert_close([canvas_BD.detach(), posterior_TBP.detach()], expected[:2])


def test_the_transforms_of_torch_func(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(H=3, Z=2, T=2)
    used = used_kernels(monkeypatch)
    x_BD, noise_TBZ = batch(net, 2)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        canvas_BD, posterior_TBP = torch.func.functional_call(net, parameters, (x_BD, noise_TBZ))
        return canvas_BD.square().sum() + posterior_TBP.square().sum()

    by_transform = torch.func.grad(loss)(parameters)
    assert not used
    canvas_BD, posterior_TBP = net(x_BD, noise_TBZ)
    (canvas_BD.square().sum() + posterior_TBP.square().sum()).backward()
    torch.testing.assert_close(by_transform, {name: p.grad for name, p in net.named_parameters()})


def test_inside_a_compiled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(H=3, Z=2, T=2)
    expected = [output.detach() for output in net(*batch(net))]
    monkeypatch.setattr(cpu, "execute", None)  # whoever called it would fail
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close([output.detach() for output in compiled(*batch(net))], expected)


@needs_compiler
@pytest.mark.parametrize(("name", "wrong"), [("x_BD", (4, 783)), ("noise_TBZ", (3, 4, 6))])
def test_sizes_that_do_not_fit_are_named(name: str, wrong: tuple[int, ...]) -> None:
    net = network()
    x_BD, noise_TBZ = batch(net)
    inputs = net.inputs(x_BD, noise_TBZ)._replace(**{name: torch.zeros(wrong, dtype=torch.float64)})
    said = {
        "x_BD": r"x_BD.shape=\(4, 783\): must be \(4, 784\)",
        "noise_TBZ": r"decoder.weight_ih.shape=\(36, 5\): must be \(36, 6\)",
    }
    with pytest.raises(ValueError, match=said[name]):
        cpu.launch(inputs)


def test_a_filter_is_a_gaussian_around_its_centre() -> None:
    """By loops, for one case: the formulas at the top of `filters`."""
    numbers = torch.tensor([[0.3, -0.2, -0.5, 0.8, 0.4]], dtype=torch.float64)
    fy_BNS, fx_BNS, gamma_B1 = filters(numbers, 5, 28)
    y, x, log_delta, log_sigma2, log_gamma = numbers[0]
    assert gamma_B1.item() == pytest.approx(log_gamma.exp().item())
    for f_NS, v in ((fy_BNS[0], y), (fx_BNS[0], x)):
        for n in range(5):
            mean = (v + 1) / 2 * 28 + (n - 2) * log_delta.exp() * 27 / 4
            row = [torch.exp(-((i - mean) ** 2) / (2 * log_sigma2.exp())) for i in range(28)]
            torch.testing.assert_close(f_NS[n], torch.stack(row) / (sum(row) + 1e-4))


def test_reading_and_writing_are_products_with_the_filters() -> None:
    windows = Windows()
    torch.manual_seed(0)
    attention_BA, x_BD, rest_BD = torch.randn(2, 35).double(), torch.rand(2, 784).double(), torch.rand(2, 784).double()
    seen_BI, written_BD = read(windows, attention_BA, x_BD, rest_BD), write(windows, attention_BA)
    for b in range(2):
        fy, fx, gamma = (t[b] for t in filters(attention_BA[:, 30:], 2, 28))
        parts = [gamma * (fy @ image.view(28, 28) @ fx.t()).flatten() for image in (x_BD[b], rest_BD[b])]
        torch.testing.assert_close(seen_BI[b], torch.cat(parts))
        fy, fx, gamma = (t[b] for t in filters(attention_BA[:, :5], 5, 28))
        torch.testing.assert_close(written_BD[b].view(28, 28), fy.t() @ attention_BA[b, 5:30].view(5, 5) @ fx / gamma)


def test_glimpses_one_by_one_end_where_the_whole_run_ends() -> None:
    net = network()
    steps = list(glimpses(net.inputs(*batch(net)))[2])
    canvas_BD, posterior_TBP = net(*batch(net))
    torch.testing.assert_close(steps[-1].canvas_BD, canvas_BD)
    torch.testing.assert_close(torch.stack([step.posterior_BP for step in steps]), posterior_TBP)
    assert torch.equal(steps[1].attention_BA, steps[0].written_BA)  # it reads where the decoder looked last


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_what_the_benchmark_compares_with_is_the_same_model(norm: str) -> None:
    bench, net = script("bench/draw.py"), network(norm)
    torch.testing.assert_close(bench.plain_loss(net, *batch(net)), bench.our_loss(net, *batch(net)))
