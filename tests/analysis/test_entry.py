"""How an analysis enters tables, claims and verdicts, from a small run of the command."""

from __future__ import annotations

import importlib
import inspect
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lnexp.analysis import ANALYSES, Run, table_of
from lnexp.errors import UserError
from lnexp.evidence import catalog
from lnexp.evidence.claims import CLAIMS, SECTIONS
from lnexp.evidence.claims.ledger import definitions, ledger
from lnexp.evidence.report import report
from lnexp.evidence.tables import add, load, make_tables, read
from lnexp.nn import NORMS
from tests.conftest import call, script

OF_TABLE1 = tuple(c for c in CLAIMS if c.experiment == "table1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with Table 1 of all norms, by the command, in two parts."""
    folder = tmp_path_factory.mktemp("analysis")
    for norms in (["ln", "none"], [norm for norm in NORMS if norm not in ("ln", "none")]):
        done = call("scripts/run_analysis.py", "table1", "--norm", *norms, "--results", folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_command_adds_runs_to_the_tables_and_repeats_them_byte_by_byte(made: Path) -> None:
    runs, rows = read("analysis_table1", made)
    assert set(runs["norm.name"]) == set(NORMS)
    assert sorted(runs["seed"].unique()) == list(ANALYSES["table1"].seeds)
    assert (runs["family"] == catalog.analysis_group("table1")).all()
    assert set(rows["id"]) == set(runs["id"]) and not runs["id"].duplicated().any()
    assert runs[["commit", "machine", "torch"]].notna().all(axis=None)
    before = {path.name: path.read_bytes() for path in (made / "tables").iterdir()}
    assert call("scripts/run_analysis.py", "table1", "--norm", "ln", "--seed", 1, "--results", made).returncode == 0
    make_tables(made, prune=True)
    assert {path.name: path.read_bytes() for path in (made / "tables").iterdir()} == before


def test_claims_are_decided_from_the_tables_and_recomputed(made: Path) -> None:
    claims = ledger(made, claims=OF_TABLE1)
    of = claims.set_index("id")
    assert of.loc[["5a", "5b", "5c"], "verdict"].tolist() == ["supported"] * 3
    assert of.loc["5c", "effect"] == "0.5" and of.loc["5c", "n"] == 5
    assert of.loc["5f", "verdict"] == "contradicted"  # section 5.1's text on weight normalisation
    claims.to_csv(made / "claims.csv", index=False)
    definitions(OF_TABLE1).to_csv(made / "definitions.csv", index=False)
    assert script("recompute_verdicts.py").differences(made) == []


def test_figures_and_report_show_it(made: Path) -> None:
    done = call("scripts/figures/table1.py", "--results", made)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (made / "figures").iterdir()} == {"table1.png", "table1_cells.png", "table1_entries.md"}
    text = (made / "figures" / "table1_entries.md").read_text()
    assert text.count(", agrees") == 18 and "differs" not in text
    claims = ledger(made).astype(str)
    shown = report(made, claims)
    assert "### table1" in shown and "figures/table1.png" in shown and ANALYSES["table1"].notes[0] in shown


def test_each_declaration_has_its_module() -> None:
    for name, analysis in ANALYSES.items():
        parameters = inspect.signature(importlib.import_module(f"lnexp.analysis.{name}").runs).parameters
        assert list(parameters) == ["norm", "seed", *analysis.settings], name


def test_analyses_are_named_like_presets() -> None:
    assert catalog.exists("table1") and catalog.task_of("table1") == table_of("table1") == "analysis_table1"
    assert catalog.run_groups("table1", "paper") == set() != catalog.run_groups("table1", "desk")
    assert not set(ANALYSES) & set(catalog.experiments())
    with pytest.raises(UserError, match="did you mean geometry"):
        catalog.task_of("geometri")
    done = call("scripts/run_analysis.py", "tabel1")
    allowed = ", ".join(sorted(ANALYSES))
    assert done.returncode == 2
    assert done.stderr == f"error: analysis=tabel1: allowed are {allowed}; did you mean table1?\n"


def test_each_analysis_belongs_to_one_section_and_its_claims_to_its_seeds() -> None:
    of_sections = [name for section in SECTIONS for name in section.analyses]
    assert sorted(of_sections) == sorted(ANALYSES)
    for claim in CLAIMS:
        if claim.experiment in ANALYSES:
            assert set(claim.seeds) <= set(ANALYSES[claim.experiment].seeds), claim.id
            assert claim.definition()["run_groups"]["desk"] == [catalog.analysis_group(claim.experiment)]


def test_settings_and_revision_are_part_of_a_claims_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    claim, now = OF_TABLE1[0], ANALYSES["table1"]
    before = claim.digest()
    monkeypatch.setitem(ANALYSES, "table1", replace(now, notes=()))
    assert claim.digest() == before
    for changed in (replace(now, revision=2), replace(now, settings={**now.settings, "draws": 21})):
        monkeypatch.setitem(ANALYSES, "table1", changed)
        assert claim.digest() != before


def test_a_value_that_is_not_finite_is_marked(tmp_path: Path) -> None:
    entry = script("run_analysis.py").entry
    for value, status in ((1.0, "finished"), (math.inf, "not finite")):
        facts, rows = entry("table1", "ln", 0, "group", Run({"layer": "dense", "eps": value}, [(1, "a/b", value)]))
        assert facts["status"] == status
        add("analysis_table1", [(facts | {"commit": "c", "dirty": False}, rows)], tmp_path)
    assert sorted(pd.read_csv(tmp_path / "tables" / "analysis_table1_runs.csv")["status"]) == ["finished", "not finite"]


def test_an_analysis_without_tables_names_its_command(tmp_path: Path) -> None:
    assert load("table1", results=tmp_path).empty
    done = call("scripts/figures/table1.py", "--results", tmp_path)
    assert "no runs of table1 in the tables; make them: make analysis" in done.stdout


def test_committed_claims_of_analyses_find_their_arms() -> None:
    """Each arm is one run per seed of the committed tables, where there are any."""
    for claim in CLAIMS:
        frame = load(claim.experiment) if claim.experiment in ANALYSES else pd.DataFrame()
        if frame.empty:
            continue
        runs = frame[frame["metric"] == claim.measure.metric].drop_duplicates("id")
        for arm in claim.arms:
            matching = runs[(runs[list(arm)] == pd.Series(arm)).all(axis=1)]
            assert sorted(matching["seed"]) == list(ANALYSES[claim.experiment].seeds), f"claim {claim.id}: {arm}"


def test_tables_of_analyses_lie_beside_those_of_tasks() -> None:
    assert not {table_of(name) for name in ANALYSES} & set(catalog.catalog()["tasks"])
