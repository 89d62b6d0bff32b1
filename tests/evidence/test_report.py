"""The committed claims and report."""

from __future__ import annotations

import pandas as pd

from lnexp import paths
from lnexp.evidence.catalog import experiments, task_of
from lnexp.evidence.claims import ledger
from lnexp.evidence.report import report
from lnexp.tasks import TASKS


def test_committed_claims_and_report_are_current() -> None:
    """They are what the committed tables give."""
    text = ledger().to_csv(index=False, lineterminator="\n")
    assert (paths.RESULTS / "claims.csv").read_text() == text, "run: make claims"
    assert (paths.RESULTS / "REPORT.md").read_text() == report(paths.RESULTS), "run: make claims"


def test_the_overview_lists_each_claim_under_its_verdict() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report(paths.RESULTS).split("\n") if line[:1] == "|"]
    head, rows = rows[0], rows[2 : next(n for n, row in enumerate(rows) if row[0].endswith("claims")) + 1]
    listed = {(id, v) for row in rows[:-1] for v, ids in zip(head[1:], row[1:], strict=True) for id in ids.split(", ") if id}
    claimed = pd.read_csv(paths.RESULTS / "claims.csv")
    assert listed == set(zip(claimed["id"], claimed["verdict"], strict=True))
    assert sum(map(int, rows[-1][1:])) == len(claimed)


def test_each_departure_from_the_paper_is_listed_once() -> None:
    text = report(paths.RESULTS)
    for task in {task_of(name) for name in experiments()}:
        assert TASKS[task].differences
        for sentence in TASKS[task].differences:
            assert text.count(f"- {sentence}\n") == 1
