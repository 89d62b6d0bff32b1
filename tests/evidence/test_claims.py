"""Claims: that they name what exists, how their definitions are fixed, and from tables to verdicts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lnexp import config, paths
from lnexp.analysis import ANALYSES
from lnexp.evidence.catalog import curves, experiments, run_groups, task_of
from lnexp.evidence.claims import CLAIMS, SECTIONS, arm, history
from lnexp.evidence.claims.ledger import definitions, ledger
from lnexp.evidence.effects import Better, LosesLess
from tests.evidence.curves import claim, measured, table

OF_ID = {c.id: c for c in CLAIMS}
TO_COME = {
    "reader_shared_statistics",
    "fig1_flickr8k_long",
    "fig2_confirm",
    "fig2_tuned_confirm",
    "reader_bn_settings",
    "reader_wide",
    "reader_one_way",
    "fig3_month",
    "fig3_conditioned",
    "fig3_long",
    "fig4_larochelle",
    "fig5_iam_tuned",
    "fig6_full",
    "convnet",
    "permuted_mnist_tuned",
}  # presets that claims may name before they exist


def test_evaluations_before_any_update_do_not_count() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[0.1, 0.5]], ("bn", 4): [[0.2, 0.3]]}).assign(step=lambda f: f["step"] - 10)
    np.testing.assert_allclose(measured(c, frame).of_seed, [-0.2])


def test_two_runs_of_one_seed_in_an_arm_are_refused() -> None:
    c = claim(Better("test/error", "lower"), arm("ln", 4), arm("bn", 4))
    frame = table({("ln", 4): [[1.0]], ("bn", 4): [[2.0]]})
    with pytest.raises(ValueError, match="several runs of one seed"):
        measured(c, pd.concat([frame, frame.assign(id=frame["id"] + "-again")]))


def test_a_claim_that_cannot_be_decided_is_refused() -> None:
    with pytest.raises(ValueError, match="claim x: Better does not take 1 arms"):
        claim(Better("test/error", "lower"), arm("ln", 4))
    with pytest.raises(ValueError, match="LosesLess does not take 5 arms"):
        claim(LosesLess("test/error", "lower"), *[arm("ln", 4)] * 5)
    with pytest.raises(ValueError, match="margin must be positive, not 0"):
        replace(OF_ID["6.6d"], margin=0.0)
    with pytest.raises(ValueError, match="at least 5 seeds must decide it, not 4"):
        replace(OF_ID["6.6d"], seeds=(0, 1, 2, 3, 3))


def test_claims_name_runs_that_exist() -> None:
    """Each arm is one configuration of the claim's experiment. Where the task declares the curve, it says the same direction."""
    assert len(OF_ID) == len(CLAIMS)
    assert {c.experiment for c in CLAIMS} <= {*experiments(), *ANALYSES, *TO_COME}
    assert {c.explored for c in CLAIMS} <= {*experiments(), ""}
    made = [c for c in CLAIMS if c.experiment in experiments()]
    grids = {experiment: config.grid(experiment, "seed=0") for experiment in {c.experiment for c in made}}
    for c in made:
        declared = {curve["metric"]: curve["better"] for curve in curves(task_of(c.experiment))}
        assert declared.get(c.measure.metric, c.measure.better) == c.measure.better, c.id
        for of_arm in c.arms:
            runs = grids[c.experiment]
            matching = [cfg for cfg in runs if all(OmegaConf.select(cfg, key) == value for key, value in of_arm.items())]
            assert len(matching) == 1, f"claim {c.id}: {len(matching)} runs of {c.experiment} match {of_arm}"


def test_every_section_of_the_paper_with_a_testable_claim_has_its_claims() -> None:
    expected = ["3", "4", "5", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "pm", "size", "where", "rms", "lr", "norms"]
    assert [section.number for section in SECTIONS] == expected
    for section in SECTIONS:
        assert section.claims
        assert all(c.id.startswith(section.number) for c in section.claims)


def test_the_digest_follows_the_definition_and_not_the_prose() -> None:
    c = OF_ID["6.6d"]
    assert replace(c, says="otherwise", where="elsewhere", id="y").digest() == c.digest()
    others = [
        replace(c, margin=c.margin * 2),
        replace(c, seeds=(5, 6, 7, 8, 9)),
        replace(c, arms=c.arms[::-1]),
        replace(c, experiment="fig2"),
        replace(c, extension=True),
        replace(c, measure=Better("valid/error", "lower")),
        replace(c, measure=Better("test/error", "higher")),
    ]
    assert len({c.digest(), *(other.digest() for other in others)}) == len(others) + 1


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git repository in place of this checkout's."""
    (tmp_path / "results").mkdir()
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def forget() -> None:
    history._git.cache_clear()
    history._versions.cache_clear()


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *command], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, rows: str | None) -> str:
    """Commit definitions.csv with these rows, or an unrelated change; the commit."""
    file = folder / ("results/definitions.csv" if rows is not None else "other")
    file.write_text(f"id,sha256,definition\n{rows}" if rows is not None else git(folder, "rev-parse", "HEAD"))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    forget()
    return git(folder, "rev-parse", "HEAD")


def test_a_definition_is_fixed_when_it_stood_before_all_runs(repository: Path) -> None:
    early = commit(repository, "other,h,\n")
    defined = commit(repository, "x,one,\nother,h,\n")
    run = commit(repository, None)
    assert history.fixed("x", "one", [run]) == "before"
    assert history.fixed("x", "one", [defined]) == "before"
    assert history.fixed("x", "one", [run, early]) == "after the runs were seen"
    assert history.fixed("x", "changed since", [run]) == "after the runs were seen"
    assert history.fixed("x", "one", ["f" * 40]) == "unknown"
    assert history.fixed("x", "one", []) == ""
    commit(repository, "x,two,\n")
    later = commit(repository, "x,one,\n")  # changed and changed back: only from here on
    assert history.fixed("x", "one", [run]) == "after the runs were seen"
    assert history.fixed("x", "one", [later]) == "before"


def test_without_git_it_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    forget()
    assert history.fixed("x", "one", ["a" * 40]) == "unknown"
    monkeypatch.undo()
    forget()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the committed tables."""
    shutil.copytree(paths.RESULTS / "tables", tmp_path / "tables")
    return tmp_path


def add_paper_scale(results: Path, seeds: range) -> None:
    """Repeat Figure 6's desk runs of some seeds as runs at paper scale."""
    folder, group = results / "tables", min(run_groups("fig6", "paper"))
    runs, rows = pd.read_csv(folder / "mnist_runs.csv"), pd.read_csv(folder / "mnist.csv")
    more = runs[runs["seed"].isin(seeds)]
    pd.concat([runs, more.assign(id="p" + more["id"], scale="paper", family=group)]).to_csv(
        folder / "mnist_runs.csv", index=False
    )
    more_rows = rows[rows["id"].isin(more["id"])]
    pd.concat([rows, more_rows.assign(id="p" + more_rows["id"])]).to_csv(folder / "mnist.csv", index=False)


@pytest.mark.parametrize(("seeds", "scale"), [(range(4), "desk"), (range(5), "paper")])
def test_a_claim_is_decided_at_the_strongest_scale_with_all_its_seeds(results: Path, seeds: range, scale: str) -> None:
    add_paper_scale(results, seeds)
    (row,) = ledger(results, claims=(OF_ID["6.6d"],)).to_dict("records")
    assert (row["scale"], row["n"], row["verdict"]) == (scale, 5, "supported")


def test_only_a_claims_own_seeds_decide_it(results: Path) -> None:
    c = replace(OF_ID["6.6d"], seeds=(5, 6, 7, 8, 9))
    (row,) = ledger(results, claims=(c,)).to_dict("records")
    assert (row["verdict"], row["n"], row["note"]) == ("not run", 0, "no runs at seeds 5 to 9")
    assert row["explored"] == "fig6, seeds 0 to 4"
    (row,) = ledger(results, claims=(replace(c, seeds=(0, 1, 2, 3, 9)),)).to_dict("records")
    assert (row["verdict"], row["n"], row["note"]) == ("not run", 4, "4 of 5 deciding seeds")


def test_a_preset_that_does_not_exist_yet_is_not_run(results: Path) -> None:
    (row,) = ledger(results, claims=(replace(OF_ID["6.6d"], experiment="to_come", explored="to_come_either"),)).to_dict("records")
    assert (row["verdict"], row["note"], row["exploration"]) == ("not run", "its preset is still to come", "")


def test_holm_counts_the_claims_of_one_list(results: Path) -> None:
    c = OF_ID["6.6d"]
    alone, extended, twice = (
        ledger(results, claims=claims)["p_holm"].astype(float)[0]
        for claims in ((c,), (c, replace(c, id="y", extension=True)), (c, replace(c, id="y")))
    )
    assert alone == extended
    assert twice == pytest.approx(2 * alone, rel=0.03)


def test_committed_definitions_are_current() -> None:
    text = definitions().to_csv(index=False, lineterminator="\n")
    assert (paths.RESULTS / "definitions.csv").read_text() == text, "run: make claims"
