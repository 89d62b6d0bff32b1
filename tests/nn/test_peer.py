"""torch's own test inputs for RNN, LSTM and GRU, run through both libraries; and the interface of torch's layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import lnexp.nn as ours
from lnexp.nn.ops.recurrent import dispatch

pytest.importorskip("expecttest", reason="torch's test inputs need expecttest")
from torch.testing._internal.common_modules import module_db

KINDS = ("RNN", "LSTM", "GRU")


def module_inputs() -> Iterator:
    for info in module_db:
        if info.module_cls in (nn.RNN, nn.LSTM, nn.GRU):
            for training in (False, True):
                found = info.module_inputs_func(info, "cpu", torch.float64, requires_grad=True, training=training)
                for n, one in enumerate(found):
                    yield pytest.param(info.module_cls, one, training, id=f"{info.name}-{n}-{training}")


INPUTS = list(module_inputs())


def test_all_of_torchs_inputs_are_there():
    assert len(INPUTS) >= 160


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, tuple | list):
        return [t for part in value for t in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


@pytest.mark.parametrize("implementation", ["as installed", "eager", "reference"])
@pytest.mark.parametrize(("theirs", "one", "training"), INPUTS)
def test_values_and_gradients_are_torchs(theirs, one, training, implementation, monkeypatch):
    if implementation == "eager":
        monkeypatch.setattr(dispatch, "fits", lambda *_: False)
    if implementation == "reference":
        monkeypatch.setenv("LNEXP_FUSED", "0")
    construction, call = one.constructor_input, one.forward_input
    found = []
    for kind, more in ((theirs, {}), (getattr(ours, theirs.__name__), {"norm": "none"})):
        torch.manual_seed(0)
        layer = kind(*construction.args, **{**construction.kwargs, "dtype": torch.float64}, **more).train(training)
        out = tensors(layer(*call.args, **call.kwargs))
        leaves = [t for t in tensors([*call.args, *call.kwargs.values()]) if t.requires_grad]
        noise = torch.Generator().manual_seed(1)
        loss = sum((t * torch.randn(t.shape, generator=noise, dtype=t.dtype)).sum() for t in out)
        found.append([*out, *torch.autograd.grad(loss, [*leaves, *layer.parameters()])])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_starts_with_torchs(kind):
    positional = [p.name for p in inspect.signature(getattr(ours, kind)).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    expected = {"RNN": ["nonlinearity"], "LSTM": [], "GRU": []}[kind]
    expected = ["input_size", "hidden_size", "num_layers", *expected, "bias", "batch_first", "dropout", "bidirectional"]
    assert positional == [*expected, *(["proj_size"] if kind == "LSTM" else []), "device", "dtype"]


@pytest.mark.parametrize("kind", KINDS)
def test_positional_arguments_and_attributes(kind):
    arguments = (3, 4, 2, *(["relu"] if kind == "RNN" else []), False, True, 0.0, True, *([2] if kind == "LSTM" else []))
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(*arguments)
    torch.manual_seed(0)
    mine = getattr(ours, kind)(*arguments, norm="none")
    names = "mode input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size"
    for name in [*names.split(), *(["nonlinearity"] if kind == "RNN" else [])]:
        assert getattr(mine, name) == getattr(theirs, name)
    assert mine.flatten_parameters() is None
    for expected, actual in zip(theirs.all_weights, mine.all_weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    x, h = torch.randn(2, 5, 3), torch.randn(4, 2, 2 if kind == "LSTM" else 4)
    hx = (h, torch.randn(4, 2, 4)) if kind == "LSTM" else h
    torch.testing.assert_close(mine(input=x, hx=hx), theirs(input=x, hx=hx))


@pytest.mark.parametrize("norm", [n for n in ours.NORMS if n != "bn_everywhere"])
def test_a_projection_follows_the_norm(norm):
    """h = W_hr (o * tanh(N(c))): with the identity on top of zeros it is the plain layer's h, cut to its first units."""
    torch.manual_seed(0)
    plain = ours.LSTM(3, 4, norm=norm, max_t=1, dtype=torch.float64)
    projected = ours.LSTM(3, 4, norm=norm, max_t=1, proj_size=2, dtype=torch.float64)
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        projected.assign(name, getattr(plain, name))
    projected.assign("weight_hr_l0", torch.eye(2, 4, dtype=torch.float64))
    x = torch.randn(1, 5, 3, dtype=torch.float64)
    (out, (h, c)), (expected, (_, c_plain)) = projected(x), plain(x)
    torch.testing.assert_close(out, expected[..., :2])
    torch.testing.assert_close(h, out)
    torch.testing.assert_close(c, c_plain)


@pytest.mark.parametrize("proj_size", [-1, 4, 5])
def test_a_projection_must_be_smaller_than_the_state(proj_size):
    with pytest.raises(ValueError, match=f"proj_size={proj_size}: must be 0 .none. or 1 to 3"):
        ours.LSTM(3, 4, proj_size=proj_size)
