"""Sequences longer than in training: choice of rates, statistics beyond max_t, and errors at chance level."""

from __future__ import annotations

import pytest
import torch

from lnexp.analysis import length
from lnexp.analysis.norms import has_cells
from lnexp.analysis.problems import COPIED, SYMBOLS
from lnexp.nn import NORMS
from lnexp.seeding import generator

SMALL = {
    "problems": ["adding", "copying"],
    "hidden_size": 32,
    "length": 12,
    "factors": [1, 2],
    "cases": 4,
    "updates": 2,
    "rates": [1e-3, 1e-2],
    "trial_seeds": [100, 101],
    "test_cases": 8,
}
TRAIN = ("adding", 32, 12, 4, 2)  # problem, hidden_size, length, cases, updates


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_that_cells_know_is_tested_at_each_length(norm: str) -> None:
    found = list(length.runs(norm, 5, **SMALL))
    at = [(run.facts["problem"], run.facts["length"]) for run in found]
    assert at == [("adding", 12), ("adding", 24), ("copying", 12), ("copying", 24)] * has_cells(norm)
    for run in found:
        assert run.values[0][1] == "test/error" and run.values[0][2] >= 0
        assert [name for _, name, _ in run.values[1:]] == ["tuning/0.001", "tuning/0.01"] * (run.facts["length"] == 12)
    for run in found[::2]:
        best = min(run.values[1:], key=lambda value: value[2])[1]
        assert best == f"tuning/{run.facts['rate']:g}"


def test_the_rate_is_chosen_by_the_mean_error_of_the_trial_seeds() -> None:
    found = length.tuned("ln", (1e-2,), (100, 101), 8, *TRAIN)
    errors = [length.test(length.train("ln", seed, 1e-2, *TRAIN), "adding", seed, 12, 8) for seed in (100, 101)]
    assert found == {1e-2: pytest.approx(sum(errors) / 2)}


def test_one_seed_gives_the_same_weights_and_another_other_ones() -> None:
    one, same, other = (length.train("bn", seed, 1e-2, *TRAIN).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lstm.weight_hh_l0"], other["lstm.weight_hh_l0"])


def test_batch_statistics_of_the_last_step_are_repeated_beyond_max_t() -> None:
    model = length.train("bn", 5, 1e-2, *TRAIN).eval()
    assert model.lstm.batch_steps is not None
    steps = model.lstm.batch_steps.get_submodule("l0")
    population = steps.population(30)  # type: ignore[operator]
    assert (population.mean_hh[12:] == population.mean_hh[11]).all()
    assert not torch.equal(population.mean_hh[10], population.mean_hh[11])


def test_without_learning_the_errors_are_those_of_guessing() -> None:
    random = generator(0, "guess")
    _, y_B = length.PROBLEMS["adding"](12, 20_000, random)
    assert float(length.losses("adding", torch.zeros(12, 20_000, 1), y_B)[1]) == pytest.approx(2 / 3, rel=0.03)
    _, y_TB = length.PROBLEMS["copying"](12, 20_000, random)
    loss, error = length.losses("copying", torch.zeros(12, 20_000, SYMBOLS), y_TB)
    assert float(error) == pytest.approx(1 - 1 / SYMBOLS, rel=0.03)
    assert float(loss) == pytest.approx(torch.tensor(float(SYMBOLS)).log().item(), rel=1e-5)
    right = torch.nn.functional.one_hot(y_TB, SYMBOLS).float()
    out_TBO = torch.cat([torch.zeros(12 - COPIED, 20_000, SYMBOLS), right])
    assert float(length.losses("copying", out_TBO, y_TB)[1]) == 0
