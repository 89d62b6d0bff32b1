"""Gradients and Jacobians of a recurrent layer through many steps, without overflow (section 3.1).

Shapes: T time, B batch, I input, H hidden, K states of a layer (1; LSTM 2: h and c), S = K B H.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from lnexp.nn import GRU, LSTM, RNN

LAYERS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
CHUNK = 50  # steps between two rescalings of the gradient

States = list[Tensor]  # h [1, B, H], and for LSTM c


def advance(layer: RNN | LSTM | GRU, x_TBI: Tensor, states: States) -> States:
    """The states after the steps x_TBI."""
    _, end = layer(x_TBI, tuple(states) if len(states) > 1 else states[0])
    return list(end) if isinstance(end, tuple) else [end]


def through_time(
    layer: RNN | LSTM | GRU, x_TBI: Tensor, start: States, direction: States, lengths: Sequence[int]
) -> tuple[dict[int, float], dict[int, float]]:
    """The size of the states after some numbers of steps, and of the gradient back through as many.

    The gradient is of L = sum direction * (states after the last step). It is rescaled every CHUNK steps at most, so that
    neither a factor of 10 nor one of 1/10 at each of thousands of steps leaves the range of numbers.

    Returns:
        length -> log10 of the root mean square of all states after that many steps; and length -> log10 of
        |dL / d states_{T - length}| / |dL / d states_T|.
    """
    steps = len(x_TBI)
    wanted = {0, steps, *lengths, *(steps - length for length in lengths)}
    stops = sorted(wanted | set(range(0, steps, CHUNK)))
    states = {0: start}
    with torch.no_grad():
        for a, b in pairwise(stops):
            states[b] = advance(layer, x_TBI[a:b], states[a])
    sizes = {length: log10(torch.cat(states[length]).square().mean().sqrt()) for length in lengths}
    gradient, total, growth = [g / size(direction) for g in direction], 0.0, dict[int, float]()
    for a, b in reversed(list(pairwise(stops))):
        inputs = [s.detach().requires_grad_() for s in states[a]]
        gradient = list(torch.autograd.grad(advance(layer, x_TBI[a:b], inputs), inputs, gradient))
        norm = size(gradient)
        total += log10(norm)
        gradient = [g / norm for g in gradient]
        if steps - a in lengths:
            growth[steps - a] = total
    return sizes, growth


def step_jacobian(layer: RNN | LSTM | GRU, x_BI: Tensor, states: States) -> Tensor:
    """d states' / d states [S, S] of one step, all cases together, since batch normalisation ties them."""
    step = Step(layer)

    def after(*states: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in step.named_buffers()}  # the layer's statistics stay as they are
        return functional_call(step, buffers, (x_BI, *states))

    blocks = jacrev(after, argnums=tuple(range(len(states))))(*states)
    return torch.cat([block.flatten(1) for block in blocks], dim=1)


class Step(nn.Module):
    """One step of a layer, as a module: (x_BI, *states) -> all new states [S]."""

    def __init__(self, layer: RNN | LSTM | GRU) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_BI: Tensor, *states: Tensor) -> Tensor:
        return torch.cat([s.flatten() for s in advance(self.layer, x_BI[None], list(states))])


def size(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all entries of some tensors."""
    return torch.cat([t.flatten() for t in tensors]).norm()


def log10(value: Tensor) -> float:
    return float(value.log10())
