"""What the measures promise: false verdicts are rare, whatever the noise."""

from __future__ import annotations

import pytest

from lnexp.evidence.effects import Ahead, Better, Faster, LosesLess
from lnexp.evidence.simulation import FASTER, NULL, PLATEAUS, WORSE, rates

STUDIES = 600
MOST = 0.015


@pytest.mark.parametrize("case", [*NULL, *PLATEAUS])
def test_speed_is_not_mistaken(case: str) -> None:
    found = rates(Faster("simulated", "lower"), (NULL | PLATEAUS)[case], STUDIES)
    assert found["supported"] <= MOST
    assert found["contradicted"] <= MOST


@pytest.mark.parametrize("measure", [Better, Ahead, LosesLess])
@pytest.mark.parametrize("case", ["equal arms", "3-fold noise"])
def test_final_values_and_leads_are_not_mistaken(measure: type, case: str) -> None:
    found = rates(measure("simulated", "lower"), NULL[case], STUDIES)
    assert found["supported"] <= MOST
    assert found["contradicted"] <= MOST


def test_logarithms_do_not_change_that() -> None:
    found = rates(Faster("simulated", "lower", log=True), NULL["3-fold noise"], STUDIES)
    assert max(found["supported"], found["contradicted"]) <= MOST


def test_a_worse_plateau_is_never_faster() -> None:
    assert rates(Faster("simulated", "lower"), WORSE["a worse plateau"], STUDIES)["supported"] <= MOST


@pytest.mark.parametrize("case", FASTER)
def test_a_real_difference_in_speed_is_mostly_found(case: str) -> None:
    assert rates(Faster("simulated", "lower"), FASTER[case], 200)["supported"] > 0.6
