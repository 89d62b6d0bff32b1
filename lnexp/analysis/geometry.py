"""The geometry of the parameters of a normalised generalised linear model (section 5.2), for any norm.

Four parts, each a run of its own, distinguished by the column "part":

- "matrix": the Fisher information by automatic differentiation and by equation (13), and what (13) leaves out;
- "curvature": blocks of the Fisher information as weight vectors grow (section 5.2.2);
- "gains": the metric along the gains under re-scaled inputs and weights (equations 32 to 35);
- "training": the angle by which an update turns weight vectors, against their norm.

Shapes: B cases, D inputs, N units, Q = D + 2 parameters of a unit, P = N Q parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lnexp.analysis import Run
from lnexp.analysis.early_stopping import train
from lnexp.analysis.fisher import OUTPUTS, covariance, fisher, gain_metric, jacobian, own_unit
from lnexp.analysis.norms import Layer
from lnexp.seeding import generator

EPS = 1e-30


def runs(
    norm: str,
    seed: int,
    *,
    cases: int,
    features: int,
    units: int,
    widths: Sequence[int],
    multiples: Sequence[int],
    input_scales: Sequence[float],
    shown: Sequence[int],
    training_multiples: Sequence[float],
    training: dict[str, Any],
) -> Iterator[Run]:
    """Measure all parts.

    Args:
        widths: numbers of units for what equation (13) leaves out.
        multiples: of weight vectors; the first two are 1 and 2.
        input_scales: factors of all inputs; 1 is among them.
        shown: features and units of the small layer of the first draw whose matrices are stored entry by entry.
        training_multiples: of the weights with which training starts; 1 is among them.
        training: arguments of `lnexp.analysis.early_stopping.train`.
    """
    left_out: dict[str, list[tuple[int, str, float]]] = {output: [] for output in OUTPUTS}
    for width in widths:
        layer, x_BD = draw(norm, seed, cases, features, width)
        z_BN, rows = jacobian(layer, x_BD)
        for output in OUTPUTS:
            c_BNN = covariance(z_BN, output)
            full, block = fisher(rows, c_BNN), fisher(own_unit(rows), c_BNN)
            left_out[output] += [
                (width, "fisher/left_out", relative(block, full)),
                (width, "fisher/top_eigenvalue", float(top(block) / top(full))),
            ]
    entries = matrix_entries(norm, seed, cases, *shown) if seed == 0 else []
    for output in OUTPUTS:
        yield Run({"part": "matrix", "output": output}, left_out[output] + (entries if output == "softmax" else []))
    layer, x_BD = draw(norm, seed, cases, features, units)
    for output, values in curvature(layer, x_BD, multiples).items():
        yield Run({"part": "curvature", "output": output}, values)
    for output, values in gains(layer, x_BD, multiples, input_scales, seed).items():
        yield Run({"part": "gains", "output": output}, values)
    trained = {multiple: train(norm, seed, multiple, **training) for multiple in training_multiples}
    turned = {multiple: sum(angle for _, angle, _, _ in periods) / len(periods) for multiple, periods in trained.items()}
    for multiple, periods in trained.items():
        values = [(1, "geometry/angle_ratio", turned[multiple] / turned[1.0])]
        for update, *measured in periods:
            values += [(update, f"training/{name}", v) for name, v in zip(("angle", "norm", "loss"), measured, strict=True)]
        yield Run({"part": "training", "multiple": multiple}, values)


def draw(norm: str, seed: int, cases: int, features: int, units: int) -> tuple[Layer, Tensor]:
    """A layer and data, equal for all norms."""
    layer = Layer(norm, features, units, EPS).double()
    layer.draw(generator(seed, "geometry", "weights", units))
    random = generator(seed, "geometry", "data", units)
    x_BD = torch.randn(cases, features, generator=random, dtype=torch.float64)
    return layer, x_BD + 0.5 * torch.randn(features, generator=random, dtype=torch.float64)


def matrix_entries(norm: str, seed: int, cases: int, features: int, units: int) -> list[tuple[int, str, float]]:
    """Every entry of F, full and by equation (13), of a small layer with softmax output."""
    layer, x_BD = draw(norm, seed, cases, features, units)
    z_BN, rows = jacobian(layer, x_BD)
    c_BNN, found = covariance(z_BN, "softmax"), list[tuple[int, str, float]]()
    for name, matrix in (("full", fisher(rows, c_BNN)), ("block", fisher(own_unit(rows), c_BNN))):
        found += [(1, f"{name}/{i}:{j}", float(matrix[i, j])) for i in range(len(matrix)) for j in range(len(matrix))]
    return found


def curvature(layer: Layer, x_BD: Tensor, multiples: Sequence[int]) -> dict[str, list[tuple[int, str, float]]]:
    """How the blocks of unit 0 change as its weight vector, or all of them, are multiplied; the step is the multiple.

    "ww": trace of the block of w_0 with itself, the curvature along w_0; "mixed": norm of its blocks with b_0 and g_0. Ratios
    to their values at the multiple 1. `geometry/curvature_ratio` is "ww" at the multiple 2, all vectors multiplied.
    """
    found: dict[str, list[tuple[int, str, float]]] = {output: [] for output in OUTPUTS}
    drawn = layer.weight_ND.detach().clone()
    features = drawn.shape[1]
    for change in ("matrix", "vector"):
        first: dict[str, tuple[float, float]] = {}
        for multiple in multiples:
            factor = torch.ones(len(drawn), 1, dtype=drawn.dtype)
            factor[slice(None) if change == "matrix" else 0] = multiple
            with torch.no_grad():
                layer.weight_ND.copy_(factor * drawn)
            z_BN, rows = jacobian(layer, x_BD)
            for output in OUTPUTS:
                of_unit = fisher(rows[:, :, :1], covariance(z_BN, output))  # [Q, Q], of unit 0
                ww, mixed = float(of_unit[:features, :features].trace()), float(of_unit[:features, features:].norm())
                ww_1, mixed_1 = first.setdefault(output, (ww, mixed))
                found[output] += [
                    (multiple, f"{change}/ww", ww / ww_1),
                    (multiple, f"{change}/mixed", mixed / mixed_1),
                ]
                if multiple == 2 and change == "matrix":
                    found[output] += [
                        (1, "geometry/curvature_ratio", ww / ww_1),
                        (1, "geometry/distance_from_half", abs(ww / ww_1 - 0.5)),
                        (1, "geometry/mixed_ratio", mixed / mixed_1),
                    ]
    with torch.no_grad():
        layer.weight_ND.copy_(drawn)
    return found


def gains(
    layer: Layer, x_BD: Tensor, multiples: Sequence[int], input_scales: Sequence[float], seed: int
) -> dict[str, list[tuple[int, str, float]]]:
    """The metric d^T M d along a drawn direction d of the gains, as all inputs or all weights are multiplied.

    Ratios to its value without, "input/<factor>" and "weight/<factor>"; the largest relative change of them, and of the one
    under re-scaled inputs alone; and what equation (32) leaves out, |E[Cov / phi^2] - M| / |M|.
    """
    direction_N = torch.randn(len(layer.weight_ND), generator=generator(seed, "gains"), dtype=torch.float64)
    found: dict[str, list[tuple[int, str, float]]] = {output: [] for output in OUTPUTS}
    drawn = layer.weight_ND.detach().clone()
    factors = [
        ("input", 1.0),
        *(("input", s) for s in input_scales if s != 1),
        *(("weight", float(m)) for m in multiples if m != 1),
    ]
    first: dict[str, float] = {}
    changes: dict[str, dict[str, float]] = {output: {"input": 0.0, "weight": 0.0} for output in OUTPUTS}
    for what, factor in factors:
        with torch.no_grad():
            layer.weight_ND.copy_(drawn * (factor if what == "weight" else 1))
        z_BN, rows = jacobian(layer, x_BD * (factor if what == "input" else 1))
        for output in OUTPUTS:
            c_BNN = covariance(z_BN, output)
            metric_NN = gain_metric(rows, c_BNN)
            along = float(direction_N @ metric_NN @ direction_N)
            if output not in first:
                first[output] = along
                found[output].append((1, "gains/equation_32_leaves_out", relative(c_BNN.mean(dim=0), metric_NN)))
            ratio = along / first[output]
            found[output].append((1, f"{what}/{factor:g}", ratio))
            changes[output][what] = max(changes[output][what], abs(ratio - 1))
    with torch.no_grad():
        layer.weight_ND.copy_(drawn)
    for output, of in changes.items():
        found[output] += [
            (1, "geometry/gain_metric_change", max(of.values())),
            (1, "geometry/gain_metric_input_change", of["input"]),
        ]
    return found


def relative(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b| in the Frobenius norm."""
    return float((a - b).norm() / b.norm())


def top(a: Tensor) -> Tensor:
    """The largest eigenvalue of a symmetric matrix."""
    return torch.linalg.eigvalsh(a)[-1]
