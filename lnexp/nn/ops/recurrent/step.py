"""One step of a recurrent layer, for models that need something between steps.

Shapes: B batch, I input, H hidden, G gates * H.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnexp.nn.ops.autograd import addressable, forms, vjp, without_autocast
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
    norm = Normalisation(cell, w, stats)
    norm.enter(0, torch.ones(x_BI.shape[0], 1, dtype=torch.bool, device=x_BI.device))
    if cell.kind == "lstm":
        assert c_BH is not None, "an LSTM has two states"
        return StepOutput(*lstm_step(cell, w, norm, x_BI, h_BH, c_BH), norm.batch_stats())
    one_step = gru_step if cell.kind == "gru" else rnn_step
    return StepOutput(one_step(cell, w, norm, x_BI, h_BH), None, norm.batch_stats())


class Step(torch.autograd.Function):
    """The compiled step as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, population: Stats | None, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        x_BI, h_BH, c_BH, *weights = tensors
        assert x_BI is not None and h_BH is not None
        h_new_BH, c_new_BH, stats, kept = cpu_step.forward(cell, Weights._make(weights), x_BI, h_BH, c_BH, population)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(stats or ()))
        ctx.cell, ctx.population = cell, population
        saved = (*tensors, h_new_BH, c_new_BH, *kept, *(stats or ()))
        ctx.forms = forms(saved)
        ctx.save_for_backward(*saved)
        return h_new_BH, c_new_BH, *(stats or ())

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, n = ctx.saved_tensors, 3 + len(Weights._fields)
        inputs, (h_new_BH, c_new_BH, *kept), measured = saved[:n], saved[n : n + 5], saved[n + 5 :]
        cell, population = ctx.cell, ctx.population
        if torch.is_grad_enabled() or not addressable([*saved, *d]):
            return None, None, *vjp(partial(_plain_states, cell, population), inputs, d[:2])
        if forms(saved) != ctx.forms:
            raise RuntimeError("a hook on saved tensors returned another shape or type than it was given")
        stats = Stats(*measured) if measured else population
        x_BI, h_BH, c_BH, *weights = inputs
        kept = [None if t is None else t.contiguous() for t in kept]
        new = h_new_BH.contiguous(), None if c_new_BH is None else c_new_BH.contiguous()
        with without_autocast(x_BI.device):
            gradients = cpu_step.backward(
                cell, Weights._make(weights), x_BI, h_BH, c_BH, *new, kept, stats, population is not None, d[:2],
                ctx.needs_input_grad[2:],
            )  # fmt: skip
        return None, None, *gradients


def _plain_states(cell: Cell, population: Stats | None, *tensors: Any) -> tuple[Tensor | None, ...]:
    x_BI, h_BH, c_BH, *weights = tensors
    return plain_step(cell, Weights._make(weights), x_BI, h_BH, c_BH, population)[:2]
