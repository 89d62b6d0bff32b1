"""Hidden-to-hidden dynamics of RNN, LSTM and GRU over recurrent scales, untrained and trained, for any norm (section 3.1).

Each block of W_hh starts as a random orthogonal matrix times the recurrent scale, which is 1 in the authors' code. The trained
nets have learned the adding problem for some updates from there. Parts, distinguished by the column "part":

- "trajectory": the size of the states after 1 to 2,000 steps and of the gradient back through as many, for one recurrent scale;
  singular values of the Jacobian of a step;
- "summary": over all recurrent scales, the mean of |log10 growth of the gradient|;
- "zero input": the gradient through steps with zero input from a zero state, where a norm divides by sqrt(eps) alone.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.analysis import Run
from lnexp.analysis.dynamics import LAYERS, States, advance, step_jacobian, through_time
from lnexp.analysis.norms import has_cells, make_norm
from lnexp.analysis.problems import adding
from lnexp.nn import GRU, LSTM, RNN
from lnexp.nn.ops.recurrent.interface import GATES
from lnexp.seeding import generator, set_aside

Layer = RNN | LSTM | GRU


def runs(
    norm: str,
    seed: int,
    *,
    cells: Sequence[str],
    hidden_size: int,
    cases: int,
    lengths: Sequence[int],
    scales: dict[str, Sequence[float]],
    growth_through: int,
    jacobian: dict[str, int],
    training: dict[str, Any],
    zero_input: dict[str, Sequence[Any]],
) -> Iterator[Run]:
    """Measure every cell; nothing for a norm that recurrent cells do not know.

    Args:
        scales: recurrent scales of "drawn" and of "trained" weights.
        growth_through: one of `lengths`, whose gradient the summary takes.
        jacobian: cases, and steps before the one that is differentiated.
        training: arguments of `train`.
        zero_input: the values of eps and the numbers of steps of that part.
    """
    for cell in cells if has_cells(norm) else ():
        for weights, of_weights in scales.items():
            growth = []
            for scale in of_weights:
                layer = draw(norm, seed, cell, hidden_size, scale)
                values = train(layer, seed, **training) if weights == "trained" else []
                values += trajectory(layer, seed, cases, lengths) + singular_values(layer, seed, **jacobian)
                growth += [abs(v) for step, name, v in values if (step, name) == (growth_through, "gradient/log10")]
                yield Run({"cell": cell, "weights": weights, "part": "trajectory", "recurrent_scale": scale}, values)
            mean = sum(growth) / len(growth)
            yield Run({"cell": cell, "weights": weights, "part": "summary"}, [(1, "stability/log_gradient_growth", mean)])
        for eps in zero_input["eps"]:
            layer = draw(norm, seed, cell, hidden_size, 1.0, eps)
            yield Run({"cell": cell, "part": "zero input", "eps": eps}, zero_inputs(layer, seed, cases, zero_input["steps"]))


def draw(norm: str, seed: int, cell: str, hidden_size: int, scale: float, eps: float = 1e-5) -> Layer:
    """A layer in float64 whose blocks of W_hh are orthogonal matrices times `scale`; equal weights for all norms."""
    with set_aside(seed, "stability", cell):
        layer = LAYERS[cell](3, hidden_size, norm=make_norm(norm, eps), max_t=1, dtype=torch.float64)
        blocks = [nn.init.orthogonal_(torch.empty(hidden_size, hidden_size, dtype=torch.float64)) for _ in range(GATES[cell])]
    layer.assign("weight_hh_l0", scale * torch.cat(blocks))
    return layer


def states(layer: Layer, seed: int, cases: int, purpose: str, std: float) -> States:
    """Random states of a layer, N(0, std^2)."""
    count = 2 if isinstance(layer, LSTM) else 1
    random = generator(seed, "stability", purpose)
    shape = (1, cases, layer.hidden_size)
    return [std * torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(count)]


def trajectory(layer: Layer, seed: int, cases: int, lengths: Sequence[int]) -> list[tuple[int, str, float]]:
    """log10 of the size of states and gradients, at each length, on inputs of the adding problem."""
    x_TBI = adding(max(lengths), cases, generator(seed, "stability", "input"))[0].double()
    sizes, growth = through_time(
        layer, x_TBI, states(layer, seed, cases, "start", 0.1), states(layer, seed, cases, "direction", 1.0), lengths
    )
    found = [(length, "state/log10", value) for length, value in sizes.items()]
    return found + [(length, "gradient/log10", growth[length]) for length in lengths]


def singular_values(layer: Layer, seed: int, cases: int, steps: int) -> list[tuple[int, str, float]]:
    """The largest and the median singular value of the Jacobian of one step, after some steps."""
    x_TBI = adding(steps + 1, cases, generator(seed, "stability", "jacobian"))[0].double()
    with torch.no_grad():
        reached = advance(layer, x_TBI[:-1], states(layer, seed, cases, "start", 0.1))
    found = torch.linalg.svdvals(step_jacobian(layer, x_TBI[-1], reached).detach())
    return [(1, "jacobian/largest", float(found[0])), (1, "jacobian/median", float(found.median()))]


def zero_inputs(layer: Layer, seed: int, cases: int, steps: Sequence[int]) -> list[tuple[int, str, float]]:
    """log10 of the growth of the gradient back through some numbers of steps of zero input from a zero state."""
    found = []
    for length in steps:
        x_TBI = torch.zeros(length, cases, layer.input_size, dtype=torch.float64)
        start = [torch.zeros_like(s) for s in states(layer, seed, cases, "start", 0.0)]
        growth = through_time(layer, x_TBI, start, states(layer, seed, cases, "direction", 1.0), [length])[1]
        found.append((length, "gradient/log10", growth[length]))
    return found


def train(
    layer: Layer, seed: int, length: int, cases: int, updates: int, rate: float, clip: float
) -> list[tuple[int, str, float]]:
    """Train the layer, with a linear output, on the adding problem by Adam; mean squared error of first and last tenth."""
    with set_aside(seed, "stability", "output"):
        output = nn.Linear(layer.hidden_size, 1).double()
    parameters = [*layer.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    random, losses = generator(seed, "stability", "training"), []
    start = states(layer, seed, cases, "start", 0.1)
    for _ in range(updates):
        x_TBI, y_B = adding(length, cases, random)
        loss = F.mse_loss(prediction(layer, output, x_TBI.double(), start), y_B.double())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        losses.append(loss.item())
    part = max(1, updates // 10)
    return [(1, "training/first", sum(losses[:part]) / part), (updates, "training/last", sum(losses[-part:]) / part)]


def prediction(layer: Layer, output: nn.Module, x_TBI: Tensor, start: States) -> Tensor:
    """The output y_B after the last step."""
    return output(advance(layer, x_TBI, start)[0][0])[:, 0]
