"""Table 1: by how much the six transformations of weights and data change the output of a layer or cell, for any norm.

Each is applied to one draw of weights and data, and the deviation is max |h' - h| / max |h| over all cases and units. The
layer is h = tanh(g / sigma (W x - mu) + b) (equation 5); a cell takes a few steps from a drawn state, with its inputs in the
place of the data and both matrices in the place of W.

Shapes: B batch, D inputs, N units, G gates * N, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lnexp import paths
from lnexp.analysis import Run
from lnexp.analysis.norms import Layer, has_cells, make_norm, own_weight
from lnexp.nn import NORMS, GRUCell, LSTMCell, RNNCell
from lnexp.seeding import generator, set_aside

TRANSFORMATIONS = {  # name -> what the paper's Table 1 calls it
    "weight_matrix_rescaling": "weight matrix re-scaling",
    "weight_matrix_recentring": "weight matrix re-centering",
    "weight_vector_rescaling": "weight vector re-scaling",
    "data_rescaling": "dataset re-scaling",
    "data_recentring": "dataset re-centering",
    "case_rescaling": "single training case re-scaling",
}
CELLS = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


@cache
def paper_entries() -> dict[str, dict[str, bool]]:
    """Table 1 as printed: label of the norm -> transformation -> whether the output is invariant."""
    numbers = pd.read_csv(paths.PAPER / "numbers.csv", dtype=str, keep_default_na=False)
    rows = numbers[(numbers["experiment"] == "analysis") & (numbers["table_or_figure"] == "Table 1")]
    printed = {(row["model"], row["metric"]): row["value"] == "invariant" for row in rows.to_dict("records")}
    models = dict.fromkeys(model for model, _ in printed)
    return {m: {name: printed[m, f"invariance: {words}"] for name, words in TRANSFORMATIONS.items()} for m in models}


def runs(
    norm: str,
    seed: int,
    *,
    draws: int,
    cases: int,
    features: int,
    units: int,
    steps: int,
    eps: Sequence[float],
    tolerance: float,
    visible: float,
) -> Iterator[Run]:
    """Measure a dense layer at every eps, and the cells that know the norm at the smallest.

    Args:
        draws: of weights, data and transformations.
        tolerance: a deviation below it in every draw counts as invariant.
        visible: one above it in every draw counts as not invariant.
    """
    printed = paper_entries().get(NORMS[norm].label, {})
    for each in eps:
        found = [dense_deviations(norm, each, cases, features, units, seed, draw) for draw in range(draws)]
        smallest = each == min(eps)
        values = summary(found, printed, tolerance, visible) if smallest else largest(found)
        yield Run({"layer": "dense", "eps": each}, values)
    for cell in CELLS if has_cells(norm) else ():
        found = [cell_deviations(norm, cell, min(eps), cases, features, units, steps, seed, draw) for draw in range(draws)]
        yield Run({"layer": cell, "eps": min(eps)}, summary(found, {}, tolerance, visible))


def largest(found: list[dict[str, float]]) -> list[tuple[int, str, float]]:
    """The largest deviation of all draws, for each transformation."""
    return [(1, f"largest/{name}", max(deviations[name] for deviations in found)) for name in TRANSFORMATIONS]


def summary(
    found: list[dict[str, float]], printed: dict[str, bool], tolerance: float, visible: float
) -> list[tuple[int, str, float]]:
    """Largest and smallest deviation of all draws; whether invariant: 1, 0, or 0.5 between the limits; entries as printed."""
    values, held = largest(found), 0
    for name in TRANSFORMATIONS:
        of = np.array([deviations[name] for deviations in found])
        invariant = 1.0 if of.max() < tolerance else 0.0 if of.min() > visible else 0.5
        values += [(1, f"smallest/{name}", of.min()), (1, f"invariant/{name}", invariant)]
        held += name in printed and invariant == printed[name]
    return [*values, (1, "invariance/entries_as_printed", float(held))] if printed else values


class Draws:
    """The transformations of one draw; each call of `change` draws anew, in a fixed order."""

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self.generator = generator(seed, "table1", *purpose)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def factor(self) -> float:
        """A factor between 1.5 and 4, or the reciprocal of one."""
        factor = 1.5 + 2.5 * float(torch.rand((), generator=self.generator))
        return factor if float(torch.rand((), generator=self.generator)) < 0.5 else 1 / factor


def dense_deviations(norm: str, eps: float, cases: int, features: int, units: int, seed: int, draw: int) -> dict[str, float]:
    """The deviation of a layer's output under each transformation, for one draw."""
    layer = Layer(norm, features, units, eps).double()
    layer.draw(generator(seed, "table1", "weights", draw))
    random = Draws(seed, "dense", draw)
    x_BD = random.normal(cases, features) + random.normal(features)

    def output(x_BD: Tensor) -> Tensor:
        return layer(x_BD).tanh()

    return deviations(output, x_BD, [layer.weight_ND], random)


def cell_deviations(
    norm: str, kind: str, eps: float, cases: int, features: int, units: int, steps: int, seed: int, draw: int
) -> dict[str, float]:
    """The same for a cell's hidden state after some steps from drawn states; the input x_BTD is its data."""
    with set_aside(seed, "table1", kind, draw):
        cell = CELLS[kind](features, units, norm=make_norm(norm, eps), max_t=steps).double()
    random = Draws(seed, kind, draw)
    matrices = [own_weight(cell, name) for name in ("weight_ih", "weight_hh")]
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if name.startswith(("gain", "bias")):
                parameter.add_(0.3 * random.normal(*parameter.shape))
    x_BTD, h_BN, c_BN = random.normal(cases, steps, features), random.normal(cases, units), random.normal(cases, units)

    def output(x_BTD: Tensor) -> Tensor:
        states = [h_BN, c_BN] if kind == "lstm" else [h_BN]
        for t in range(steps):
            after = cell(x_BTD[:, t], tuple(states) if kind == "lstm" else states[0], t=t)
            states = [after] if isinstance(after, Tensor) else list(after)
        return states[0]

    return deviations(output, x_BTD, matrices, random)


@torch.no_grad()
def deviations(output: Callable[[Tensor], Tensor], x: Tensor, matrices: list[nn.Parameter], random: Draws) -> dict[str, float]:
    """The largest change of the output, in units of the largest output, under each transformation.

    Args:
        output: a function of the data, whose parameters `matrices` are.
        x: the data, cases first and features last.
        matrices: the weights [N, D] that are transformed together, as if side by side.
    """
    before = output(x)
    drawn = [matrix.clone() for matrix in matrices]
    unit, case = int(torch.randint(len(drawn[0]), (), generator=random.generator)), 0
    factor, shift_D = random.factor(), random.normal(x.shape[-1])
    one_unit = torch.ones(len(drawn[0]), 1, dtype=x.dtype)
    one_unit[unit] = factor
    one_case = torch.ones(len(x), *[1] * (x.dim() - 1), dtype=x.dtype)
    one_case[case] = factor
    weights = {
        "weight_matrix_rescaling": [factor * w for w in drawn],
        "weight_matrix_recentring": [w + random.normal(1, w.shape[1]) / w.shape[1] ** 0.5 for w in drawn],
        "weight_vector_rescaling": [one_unit * w for w in drawn],
    }
    data = {"data_rescaling": factor * x, "data_recentring": x + shift_D, "case_rescaling": one_case * x}
    found = {}
    for name in TRANSFORMATIONS:
        for matrix, original, changed in zip(matrices, drawn, weights.get(name, drawn), strict=True):
            matrix.copy_(original if name not in weights else changed)
        found[name] = float((output(data.get(name, x)) - before).abs().max() / before.abs().max())
    for matrix, original in zip(matrices, drawn, strict=True):
        matrix.copy_(original)
    return found
