"""torch.compile around the layers, and the reference through it, give what the layers give (without code generation: quick)."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters

from lnexp.nn import GRU, LSTM, RNN, linear_cross_entropy, order_violations
from lnexp.nn.ops.recurrent import dispatch


@pytest.mark.parametrize("norm", ["none", "ln", "bn", "wn"])
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_a_compiled_model_keeps_its_layers(kind: type, norm: str) -> None:
    layer = kind(3, 4, norm=norm, max_t=5)
    x_TBI = torch.randn(5, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager")
    for lengths in (None, [5, 3]):
        torch.testing.assert_close(compiled(x_TBI, lengths=lengths)[0], layer(x_TBI, lengths=lengths)[0])
    compiled(x_TBI)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_the_reference_compiled(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = kind(3, 4, norm="ln")
    x_TBI = torch.randn(5, 2, 3)
    expected = layer(x_TBI)[0]
    with_code_generator = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: with_code_generator(f, backend="aot_eager"))
    dispatch._compiled_reference.cache_clear()
    monkeypatch.setenv("LNEXP_FUSED", "compile")
    torch.testing.assert_close(layer(x_TBI)[0], expected)
    dispatch._compiled_reference.cache_clear()


def test_an_unknown_implementation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNEXP_FUSED", "fast")
    with pytest.raises(ValueError, match="LNEXP_FUSED=fast: allowed are 1"):
        LSTM(3, 4)(torch.randn(5, 2, 3))


def test_layers_never_recompile() -> None:
    """Two layers in both directions, ragged batches of all sizes: only what is around the layer is compiled."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.ModuleList(LSTM(4, 2, num_layers=2, bidirectional=True) for _ in range(5))

        def forward(self, x_TBI: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
            for layer in self.inner:
                x_TBI = layer(x_TBI.sin(), lengths=lengths_B)[0]
            return x_TBI

    torch._dynamo.reset()
    counters.clear()
    model = Model()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    for steps in range(3, 15):
        x_TBI, lengths_B = torch.randn(steps, steps + 2, 4), torch.arange(steps + 2) % steps + 1
        torch.testing.assert_close(compiled(x_TBI, lengths_B), model(x_TBI, lengths_B))
    assert counters["frames"]["total"] <= 2 * (len(model.inner) + 1)  # one for each piece between layers, however many batches


def test_a_whole_graph_is_refused_with_the_reason() -> None:
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"recurrent layers of lnexp\.nn run outside of compiled graphs"):
        torch.compile(torch.nn.Sequential(GRU(3, 4)), backend="eager", fullgraph=True)(torch.randn(5, 2, 3))


def test_losses_in_a_whole_graph() -> None:
    torch._dynamo.reset()
    h_NH, w_VH, target_N = torch.randn(6, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True), torch.arange(6) % 5
    for function in (order_violations, lambda h, w: linear_cross_entropy(h, w, None, target_N)):
        whole = torch.compile(function, backend="aot_eager", fullgraph=True)
        found = [torch.autograd.grad(f(h_NH, w_VH).sum(), (h_NH, w_VH)) for f in (whole, function)]
        torch.testing.assert_close(found[0], found[1])


def test_importing_the_layers_does_not_import_the_compiler() -> None:
    command = "import sys, lnexp.nn; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
