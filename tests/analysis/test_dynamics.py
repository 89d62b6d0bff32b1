"""Gradients through time and Jacobians of a step against autograd on the whole, finite differences, and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lnexp.analysis.dynamics import CHUNK, advance, step_jacobian, through_time
from lnexp.analysis.norms import has_cells
from lnexp.analysis.problems import COPIED, SYMBOLS, adding, copying
from lnexp.analysis.stability import draw, runs, states, zero_inputs
from lnexp.nn import NORMS
from lnexp.seeding import generator

CELLS = ("rnn", "lstm", "gru")
KNOWN = [norm for norm in NORMS if has_cells(norm)]
SMALL = {
    "cells": CELLS,
    "hidden_size": 32,
    "cases": 3,
    "lengths": [1, 5, 8],
    "scales": {"drawn": [0.5, 1.0], "trained": [1.0]},
    "growth_through": 5,
    "jacobian": {"cases": 2, "steps": 4},
    "training": {"length": 6, "cases": 3, "updates": 2, "rate": 1e-3, "clip": 1.0},
    "zero_input": {"eps": [1e-3], "steps": [1, 2]},
}


def numbers(steps: int, cases: int = 3) -> Tensor:
    return torch.randn(steps, cases, 3, generator=generator(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", KNOWN)
def test_the_rescaled_gradient_is_autograds_own(norm: str, cell: str) -> None:
    """Through more than one chunk, against one backward pass over all steps, where all cases are one batch."""
    steps, lengths = CHUNK + 7, [1, 20, CHUNK + 7]
    layer = draw(norm, 0, cell, 32, 1.0)
    x_TBI, start, direction = numbers(steps), states(layer, 0, 3, "start", 0.1), states(layer, 0, 3, "direction", 1.0)
    sizes, growth = through_time(layer, x_TBI, start, direction, lengths)
    for length in lengths:
        with torch.no_grad():
            reached = advance(layer, x_TBI[: steps - length], start) if length < steps else start
            expected = torch.cat([s.flatten() for s in advance(layer, x_TBI[:length], start)])
        assert sizes[length] == pytest.approx(float(expected.square().mean().sqrt().log10()), abs=1e-9)
        inputs = [s.clone().requires_grad_() for s in reached]
        end = advance(layer, x_TBI[steps - length :], inputs)
        loss = sum((d * s).sum() for d, s in zip(direction, end, strict=True))
        grads = torch.autograd.grad(loss, inputs)
        ratio = torch.cat([g.flatten() for g in grads]).norm() / torch.cat([d.flatten() for d in direction]).norm()
        assert growth[length] == pytest.approx(float(ratio.log10()), abs=1e-7)


def test_a_linear_net_grows_as_its_scale_without_overflow() -> None:
    """A tanh RNN at the state 0: the gradient through k steps of scale * orthogonal grows by scale^k, beyond float64."""
    layer = draw("none", 0, "rnn", 8, 4.0)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if not name.startswith("weight_hh"):
                parameter.zero_()
    steps = 1200  # 4^1200 is 10^722
    x_TBI, start = torch.zeros(steps, 2, 3, dtype=torch.float64), [torch.zeros(1, 2, 8, dtype=torch.float64)]
    growth = through_time(layer, x_TBI, start, states(layer, 0, 2, "direction", 1.0), [1, 10, steps])[1]
    assert growth[1] == pytest.approx(np.log10(4))  # tanh'(0) = 1
    assert growth[steps] == pytest.approx(steps * np.log10(4))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", KNOWN)
def test_singular_values_of_a_step_are_those_of_finite_differences(norm: str, cell: str) -> None:
    layer = draw(norm, 1, cell, 32, 1.0)
    x_BI, at = numbers(1)[0], states(layer, 1, 3, "start", 0.5)
    flat, shapes = torch.cat([s.flatten() for s in at]), [s.shape for s in at]
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    found = torch.linalg.svdvals(step_jacobian(layer, x_BI, at))
    assert all(torch.equal(before[name], buffer) for name, buffer in layer.named_buffers())

    def after(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        with torch.no_grad():
            end = advance(layer, x_BI[None], [part.view(shape) for part, shape in zip(parts, shapes, strict=True)])
        return torch.cat([s.flatten() for s in end])

    h = 1e-6
    columns = [(after(flat + h * unit) - after(flat - h * unit)) / (2 * h) for unit in torch.eye(len(flat), dtype=torch.float64)]
    torch.testing.assert_close(found, torch.linalg.svdvals(torch.stack(columns, dim=1)), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("cell", "factor"), [("rnn", lambda e: e**-0.5), ("lstm", lambda e: 1 / (4 * e)), ("gru", lambda e: 0.5 + 1 / (4 * e**0.5))]
)
def test_zero_inputs_multiply_gradients_as_predicted(cell: str, factor: Callable[[float], float]) -> None:
    eps = 1e-6
    found = {steps: value for steps, _, value in zero_inputs(draw("ln", 0, cell, 32, 1.0, eps), 0, 4, [4, 8])}
    assert (found[8] - found[4]) / 4 == pytest.approx(np.log10(factor(eps)), abs=0.05)


def test_the_recurrent_scale_drops_out_where_its_term_is_normalised_by_itself() -> None:
    x_TBI = numbers(10)
    for cell, changes in (("rnn", True), ("lstm", False), ("gru", False)):
        ends = []
        for scale in (0.5, 2.0):
            layer = draw("ln", 0, cell, 32, scale, 1e-30)
            ends.append(advance(layer, x_TBI, states(layer, 0, 3, "start", 0.1))[0])
        assert torch.allclose(*ends) != changes


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_that_cells_know_is_measured(norm: str) -> None:
    found = list(runs(norm, 0, **SMALL))
    parts = [(run.facts["cell"], run.facts["part"]) for run in found]
    per_cell = ["trajectory", "trajectory", "summary", "trajectory", "summary", "zero input"]
    assert parts == [(cell, part) for cell in CELLS for part in per_cell] * has_cells(norm)
    assert all(np.isfinite(value) for run in found for _, _, value in run.values)
    for run in found:
        if run.facts["part"] == "summary" and run.facts["weights"] == "drawn":
            of = [r for r in found if r.facts.get("weights") == "drawn" and r.facts["cell"] == run.facts["cell"]]
            growth = [abs(v) for r in of for k, m, v in r.values if (k, m) == (5, "gradient/log10")]
            assert run.values == [(1, "stability/log_gradient_growth", pytest.approx(sum(growth) / 2))]


def test_all_norms_start_from_equal_weights() -> None:
    drawn = [draw(norm, 3, "gru", 32, 1.41).weight_hh_l0 for norm in KNOWN]
    for matrix in drawn:
        torch.testing.assert_close(matrix, drawn[0])
        torch.testing.assert_close(matrix[:32] @ matrix[:32].t(), 1.41**2 * torch.eye(32, dtype=torch.float64))


def test_the_problems_are_as_described() -> None:
    x_TBI, y_B = adding(20, 50, generator(0, "adding"))
    assert x_TBI.shape == (20, 50, 3)
    assert (x_TBI[:10, :, 1].sum(0) == 1).all() and (x_TBI[10:, :, 1].sum(0) == 1).all()
    torch.testing.assert_close((x_TBI[..., 0] * x_TBI[..., 1]).sum(0), y_B)
    x_TBI, y_TB = copying(20, 50, generator(0, "copying"))
    assert x_TBI.shape == (20, 50, SYMBOLS + 3) and y_TB.shape == (COPIED, 50)
    assert (x_TBI[..., :-1].sum(2) == 1).all()
    assert torch.equal(x_TBI[:COPIED, :, :SYMBOLS].argmax(2), y_TB)
    assert (x_TBI[20 - COPIED - 1, :, SYMBOLS + 1] == 1).all() and x_TBI[..., SYMBOLS + 1].sum() == 50
