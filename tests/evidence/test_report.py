"""The committed claims and report."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from lnexp import paths
from lnexp.evidence.catalog import differences, experiments, task_of
from lnexp.evidence.claims import SECTIONS
from lnexp.evidence.claims.ledger import ledger
from lnexp.evidence.report import report
from lnexp.evidence.stats import VERDICTS


@pytest.fixture(scope="module")
def claims() -> pd.DataFrame:
    return pd.read_csv(paths.RESULTS / "claims.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def text() -> str:
    return report(paths.RESULTS)


def test_committed_claims_and_report_are_current(claims: pd.DataFrame, text: str) -> None:
    """They are what the committed tables give; without git, all but what the history says."""
    now = ledger().astype(str)
    assert list(now) == list(claims)
    known = now["fixed"] != "unknown"
    for column in now:
        rows = known if column == "fixed" else slice(None)
        assert now.loc[rows, column].tolist() == claims.loc[rows, column].tolist(), f"{column}: run: make claims"
    assert (paths.RESULTS / "REPORT.md").read_text() == text, "run: make claims"


def test_the_opening_counts_every_claim_of_the_paper(claims: pd.DataFrame, text: str) -> None:
    lines = [line for line in text.partition("## How")[0].split("\n") if line.startswith("| [")]
    assert len(lines) == len(SECTIONS)
    of_us = [all(claim.list != "paper" for claim in section.claims) for section in SECTIONS]  # extensions and studies
    rows = [line for line, ours in zip(lines, of_us, strict=True) if not ours]
    counts = [[int(cell) for cell in line.split("|")[3 : 3 + len(VERDICTS)]] for line in rows]
    of_paper = claims[claims["list"] == "paper"]["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    assert [sum(column) for column in zip(*counts, strict=True)] == of_paper.tolist()
    assert f"tried of {of_paper.sum()}." in text


def test_every_claim_has_its_row_and_every_link_its_heading(claims: pd.DataFrame, text: str) -> None:
    body = text.partition("## How")[2].partition("## Appendix")[0]
    for claim in claims.to_dict("records"):
        (row,) = re.findall(rf"^\| {re.escape(claim['id'])} \|.*$", body, re.MULTILINE)
        assert claim["says"] in row
        assert (f"**{claim['verdict']}**" in row) == (claim["verdict"] != "not run")
    headings = {re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in text.split("\n") if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_every_experiment_has_its_place(text: str) -> None:
    assert {line[4:] for line in text.split("\n") if line.startswith("### ")} >= set(experiments())


def test_each_departure_from_the_paper_is_listed_once(text: str) -> None:
    for task in {task_of(name) for name in experiments()}:
        assert differences(task)
        for sentence in differences(task):
            assert text.count(f"- {sentence}\n") == 1
