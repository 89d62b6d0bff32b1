"""One step of a recurrent layer, for models that need something between steps.

Shapes: B batch, I input, H hidden, G gates * H.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnexp.nn.ops.recurrent import cpu_step
from lnexp.nn.ops.recurrent.interface import Cell, Stats, Weights
from lnexp.nn.ops.recurrent.reference import Normalisation, gru_step, lstm_step, rnn_step


class StepOutput(NamedTuple):
    """The states after the step, and the batch statistics, each [1, features] (norm "bn" in training; detached)."""

    h_BH: Tensor
    c_BH: Tensor | None  # lstm only
    stats: Stats | None


def step(cell: Cell, w: Weights, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None, stats: Stats | None = None) -> StepOutput:
    """One step: the compiled kernel where it fits, plain torch calls elsewhere. Differentiable any number of times.

    Args:
        stats: norm "bn": the population statistics [1, features] to evaluate with. None: those of the batch.
    """
    if cpu_step.fits(cell, w, x_BI, h_BH, c_BH):
        h_new_BH, c_new_BH, *measured = Step.apply(cell, stats, x_BI, h_BH, c_BH, *w)
        return StepOutput(h_new_BH, c_new_BH, Stats(*measured) if measured else None)
    return plain_step(cell, w, x_BI, h_BH, c_BH, stats)


def plain_step(cell: Cell, w: Weights, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor | None, stats: Stats | None) -> StepOutput:
    """The paper's equations in plain torch calls (`reference`)."""
    norm = Normalisation(cell, stats)
    norm.enter(0, torch.ones(x_BI.shape[0], 1, dtype=torch.bool, device=x_BI.device))
    if cell.kind == "lstm":
        assert c_BH is not None, "an LSTM has two states"
        return StepOutput(*lstm_step(cell, w, norm, x_BI, h_BH, c_BH), norm.batch_stats())
    one_step = gru_step if cell.kind == "gru" else rnn_step
    return StepOutput(one_step(cell, w, norm, x_BI, h_BH), None, norm.batch_stats())


class Step(torch.autograd.Function):
    """The compiled step as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, cell, population, x_BI, h_BH, c_BH, *weights):
        w = Weights(*weights)
        h_new_BH, c_new_BH, stats, kept = cpu_step.forward(cell, w, x_BI, h_BH, c_BH, population)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(stats or ()))
        ctx.cell, ctx.population = cell, population
        ctx.save_for_backward(x_BI, h_BH, c_BH, *weights, h_new_BH, c_new_BH, *kept, *(stats or ()))
        return h_new_BH, c_new_BH, *(stats or ())

    @staticmethod
    def backward(ctx: Any, *d):
        saved, n = ctx.saved_tensors, 3 + len(Weights._fields)
        inputs, (h_new_BH, c_new_BH, *kept), measured = saved[:n], saved[n : n + 5], saved[n + 5 :]
        cell, population = ctx.cell, ctx.population
        if torch.is_grad_enabled() or not cpu_step.reachable(*d[:2]):
            return None, None, *_derivatives(cell, population, inputs, d[:2])
        stats = Stats(*measured) if measured else population
        x_BI, h_BH, c_BH, *weights = inputs
        gradients = cpu_step.backward(
            cell, Weights(*weights), x_BI, h_BH, c_BH, h_new_BH, c_new_BH, kept, stats, population is not None, d[:2],
            ctx.needs_input_grad[2:],
        )  # fmt: skip
        return None, None, *gradients


def _derivatives(
    cell: Cell, population: Stats | None, inputs: tuple[Tensor | None, ...], d: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """The gradients by way of the reference, so that they have gradients themselves."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, as the inputs may depend on one another and each gradient is to be a partial one.
        views = [None if t is None else t.view_as(t) if t.requires_grad else t.detach() for t in inputs]
        x_BI, h_BH, c_BH, *weights = views
        assert x_BI is not None and h_BH is not None
        h_new_BH, c_new_BH, _ = plain_step(cell, Weights._make(weights), x_BI, h_BH, c_BH, population)
        pairs = [(out, grad) for out, grad in zip((h_new_BH, c_new_BH), d, strict=True) if out is not None and grad is not None]
        asked = [v for v in views if v is not None and v.requires_grad]
        if not pairs or not asked:
            return [None] * len(inputs)
        outs, grads = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outs, asked, grads, create_graph=create_graph, allow_unused=True))
    return [next(found) if v is not None and v.requires_grad else None for v in views]
