"""The second implementation of all verdicts agrees with the first."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from lnexp import paths
from lnexp.evidence.claims import CLAIMS, Claim, arm
from lnexp.evidence.claims.base import NEW
from lnexp.evidence.claims.ledger import definitions, ledger
from lnexp.evidence.tuning import ExpectedBest

spec = importlib.util.spec_from_file_location("recompute", paths.ROOT / "scripts" / "recompute_verdicts.py")
assert spec
assert spec.loader
recompute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recompute)


def test_the_committed_verdicts_are_as_recomputed() -> None:
    assert recompute.differences(paths.RESULTS) == []


@pytest.fixture
def later_seeds(tmp_path: Path) -> Path:
    """The committed tables as if of seeds 5 to 9, timed, with one thread; one run in eleven diverged, BN's on MNIST are dirty."""
    shutil.copytree(paths.RESULTS / "tables", tmp_path / "tables")
    for path in (tmp_path / "tables").glob("*_runs.csv"):
        runs = pd.read_csv(path)
        runs["seed"] += 5
        runs["threads"] = "1"  # one of them was resumed with 2
        runs.loc[runs.index[::11], "status"] = "diverged"
        if path.name == "mnist_runs.csv":
            runs.loc[runs["norm.name"] == "bn", "dirty"] = True
        runs.to_csv(path, index=False)
        rows = pd.read_csv(path.with_name(path.name.replace("_runs", "")))
        rows.assign(cpu_seconds=rows["seconds"]).to_csv(path.with_name(path.name.replace("_runs", "")), index=False)
    return tmp_path


def test_so_are_verdicts_on_speed_time_and_divergence(later_seeds: Path) -> None:
    tried = tuple(replace(claim, experiment=claim.explored or claim.experiment) for claim in CLAIMS)
    claims = ledger(later_seeds, claims=tried)
    definitions(tried).to_csv(later_seeds / "definitions.csv", index=False)
    claims.to_csv(later_seeds / "claims.csv", index=False)
    decided = claims[claims["verdict"] != "not run"]
    assert {"6.1f", "6.1i", "6.2g", "6.3a", "6.3o", "pm-b"} <= set(decided["id"])
    assert set(decided["verdict"]) == {"supported", "contradicted", "equivalent", "inconclusive"}
    assert decided["effect"].str.startswith("at ").any()
    assert recompute.differences(later_seeds) == []


def test_a_wrong_verdict_is_named(later_seeds: Path) -> None:
    definitions().to_csv(later_seeds / "definitions.csv", index=False)
    claims = ledger(later_seeds)
    claims.loc[claims["id"] == "6.3a", "verdict"] = "contradicted"
    claims.to_csv(later_seeds / "claims.csv", index=False)
    (line,) = recompute.differences(later_seeds)
    assert line.startswith("6.3a: contradicted")


@pytest.mark.parametrize(("trials", "over"), [(1, "end"), (2, "end"), (3, "run")])
def test_so_are_studies_of_tuned_arms_each_a_list_of_its_own(later_seeds: Path, trials: int, over: Literal["end", "run"]) -> None:
    gains = (0.1, 0.5, 1.0)
    arms = tuple(arm(norm, 64, **{"norm.gain": gain}) for norm in ("ln", "bn") for gain in gains)
    measure = ExpectedBest("valid/error", "lower", trials, over)
    first = Claim("s-a", "extension", "made up", "gain_sensitivity", measure, arms, NEW, 0.01, extension=True, study="s")
    swapped = replace(first, id="t-a", arms=arms[3:] + arms[:3], study="t")
    claims = ledger(later_seeds, claims=(first, swapped))
    assert claims["n"].tolist() == [5, 5]
    assert claims["list"].tolist() == ["s", "t"]
    assert float(claims["effect"][0]) == -float(claims["effect"][1])
    assert float(claims["p_holm"][0]) == pytest.approx(float(claims["p_t"][0]), rel=0.03)  # the only claim of its list
    definitions((first, swapped)).to_csv(later_seeds / "definitions.csv", index=False)
    claims.to_csv(later_seeds / "claims.csv", index=False)
    assert recompute.differences(later_seeds) == []
