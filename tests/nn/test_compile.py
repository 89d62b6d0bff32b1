"""torch.compile around the layers, and the reference through it, give what the layers give (without code generation: quick)."""

from __future__ import annotations

import pytest
import torch

from lnexp.nn import GRU, LSTM, RNN
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
