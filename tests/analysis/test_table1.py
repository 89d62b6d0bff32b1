"""Table 1: the transformations against the paper's equations, and its entries on small draws."""

from __future__ import annotations

import pytest
import torch

from lnexp.analysis import ANALYSES, table1
from lnexp.analysis.norms import Layer, has_cells
from lnexp.analysis.table1 import TRANSFORMATIONS, paper_entries, runs
from lnexp.nn import NORMS, Norm
from lnexp.seeding import generator

SMALL = {"draws": 3, "cases": 6, "features": 5, "units": 32, "steps": 2, "eps": [1e-5, 1e-30], "tolerance": 1e-9, "visible": 1e-3}
OF_PAPER = [name for name, norm in NORMS.items() if norm.label in paper_entries()]


def measured(norm: str) -> dict[tuple[str, float], dict[str, float]]:
    return {(run.facts["layer"], run.facts["eps"]): {m: v for _, m, v in run.values} for run in runs(norm, 0, **SMALL)}


def test_the_printed_table_is_read() -> None:
    assert set(paper_entries()) == {"batch norm", "weight norm", "layer norm"}
    assert [sum(row.values()) for row in paper_entries().values()] == [4, 2, 4]
    assert not paper_entries()["weight norm"]["data_rescaling"]


@pytest.mark.parametrize("norm", OF_PAPER)
def test_all_six_entries_are_as_printed(norm: str) -> None:
    found = measured(norm)["dense", 1e-30]
    assert found["invariance/entries_as_printed"] == 6
    assert {name: found[f"invariant/{name}"] == 1 for name in TRANSFORMATIONS} == paper_entries()[NORMS[norm].label]


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_is_measured_with_the_cells_that_know_it(norm: str) -> None:
    found = measured(norm)
    assert [layer for layer, _ in found] == ["dense", "dense", *(["rnn", "lstm", "gru"] if has_cells(norm) else [])]
    assert ("invariance/entries_as_printed" in found["dense", 1e-30]) == (norm in OF_PAPER)
    for values in found.values():
        assert all(values[f"largest/{name}"] >= values.get(f"smallest/{name}", 0) >= 0 for name in TRANSFORMATIONS)


def test_a_norm_that_cells_refuse_has_a_table_of_its_layer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halved(Norm):
        """Divides by two; known to no cell."""

        name = "halved"
        label = "halved"

        def dense(self, n: int) -> torch.nn.Module:
            return torch.nn.Hardtanh(-2.0, 2.0)

    monkeypatch.setitem(NORMS, "halved", Halved)
    assert {layer for layer, _ in measured("halved")} == {"dense"}


def test_invariance_is_broken_in_proportion_to_eps() -> None:
    """(a - mu) / sqrt(sigma^2 + eps) = zhat (1 - eps / (2 sigma^2)) to first order."""
    deviation = [table1.dense_deviations("ln", eps, 6, 5, 32, seed=0, draw=0)["weight_matrix_rescaling"] for eps in (1e-4, 1e-6)]
    assert deviation[0] / deviation[1] == pytest.approx(100, rel=0.01)


def test_layers_are_equation_5_and_equal_draws_under_every_norm() -> None:
    x_BD = torch.randn(6, 5, generator=generator(0, "x"), dtype=torch.float64)
    layers = {norm: Layer(norm, 5, 32, 1e-30).double() for norm in ("none", "bn", "ln", "wn")}
    for layer in layers.values():
        layer.draw(generator(0, "weights"))
    weight_ND, gain_N, bias_N = (layers["ln"].weight_ND, layers["ln"].gain_N, layers["ln"].bias_N)
    assert gain_N is not None and bias_N is not None
    a_BN = x_BD @ weight_ND.t()
    mu_sigma = {
        "bn": (a_BN.mean(0), a_BN.var(0, unbiased=False).sqrt()),
        "ln": (a_BN.mean(1, keepdim=True), a_BN.var(1, unbiased=False, keepdim=True).sqrt()),
        "wn": (0.0, weight_ND.norm(dim=1)),
    }
    for norm, (mu, sigma) in mu_sigma.items():
        torch.testing.assert_close(layers[norm](x_BD), gain_N * (a_BN - mu) / sigma + bias_N)
    torch.testing.assert_close(layers["none"](x_BD), a_BN + bias_N)


def test_declared_settings_are_those_of_the_module() -> None:
    assert set(ANALYSES["table1"].settings) == set(SMALL)
