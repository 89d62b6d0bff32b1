"""Tables and figures, from real smoke runs and from the committed tables."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from lnexp import config, paths
from lnexp.evidence import tables as results
from lnexp.training import run
from tests.conftest import call


@pytest.fixture(scope="module")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the runs of Figure 6 at smoke scale, two seeds each."""
    folder = tmp_path_factory.mktemp("made")
    given = [
        "scale=smoke",
        "data=idx",
        f"data.root={digits}",
        f"results_dir={folder}",
        "seed=0,1",
        "max_updates=20",
        "wandb.mode=disabled",
    ]
    for cfg in config.grid("fig6", *given):
        run.run(cfg)
    return folder


def test_tables_hold_every_run_and_are_the_same_bytes_again(made: Path) -> None:
    assert results.make_tables(made, ["smoke"]) == ["mnist: 12 runs, 12 of them from this disk"]
    written = {p.name: p.read_bytes() for p in (made / "tables").iterdir()}
    results.make_tables(made, ["smoke"])
    assert {p.name: p.read_bytes() for p in (made / "tables").iterdir()} == written
    runs, metrics = results.read("mnist", made)
    assert set(runs["norm.name"]) == {"none", "bn", "ln"}
    assert set(metrics["id"]) == set(runs["id"])
    assert runs["commit"].notna().all()
    assert "12" not in str(runs["batch_size"].dtype)
    assert set(runs["batch_size"]) == {4, 128}
    assert b",128.0," not in written["mnist_runs.csv"]


def test_smoke_runs_are_no_evidence(made: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(made / "runs")
    results.make_tables(tmp_path)
    assert results.read("mnist", tmp_path)[0].empty


def test_tables_outlive_runs_and_prune_drops_strangers(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.make_tables(made, ["smoke"])
    (tmp_path / "tables").mkdir()
    for table in (made / "tables").iterdir():  # another machine's tables: its runs are not on this disk
        (tmp_path / "tables" / table.name).write_bytes(table.read_bytes())
    cfg = config.compose(["task=mnist", "scale=smoke", "data=idx", "data.root=x", "norm=ln"])
    (run_folder,) = [p for p in (made / "runs" / "mnist").iterdir() if p.name.startswith("ln-b4-s1")]
    (tmp_path / "runs" / "mnist").mkdir(parents=True)
    (tmp_path / "runs" / "mnist" / run_folder.name).symlink_to(run_folder)
    assert results.make_tables(tmp_path, ["smoke"]) == ["mnist: 12 runs, 1 of them from this disk"]
    assert results.tabled("mnist", tmp_path) == {f"mnist/{i}" for i in results.read("mnist", made)[0]["id"]}
    assert config.run_id(cfg) not in results.tabled("mnist", tmp_path)
    monkeypatch.setattr(results, "SCALES", ("smoke",))  # to spell out every grid at every scale takes a minute
    results.make_tables(tmp_path, ["smoke"], prune=True)  # max_updates=20 and data=idx are in no preset
    assert results.read("mnist", tmp_path)[0].empty


def test_a_run_that_went_on_elsewhere_names_all_it_was_made_by(made: Path, tmp_path: Path) -> None:
    source = sorted((made / "runs" / "mnist").iterdir())[0]
    folder = tmp_path / "runs" / "mnist" / source.name
    shutil.copytree(source, folder)
    (start,) = json.loads((folder / "env.json").read_text())
    starts = [{**start, "commit": "a" * 40, "machine": "one"}, {**start, "commit": "b" * 40, "machine": "another"}]
    (folder / "env.json").write_text(json.dumps([*starts, starts[0]]))
    results.make_tables(tmp_path, ["smoke"])
    (row,) = results.read("mnist", tmp_path)[0].to_dict("records")
    assert (row["commit"], row["machine"]) == (f"{'a' * 40}; {'b' * 40}", "one; another")
    assert (row["threads"], row["torch"]) == (start["threads"], start["torch"])


def test_skip_tabled_leaves_out_what_the_tables_hold(
    made: Path, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture
) -> None:
    results.make_tables(made, ["smoke"])
    (tmp_path / "tables").symlink_to(made / "tables")
    given = ["scale=smoke", "data=idx", f"data.root={digits}", f"results_dir={tmp_path}", "max_updates=20", "skip=tabled"]
    cfg = config.grid("fig6", *given, "seed=0")[0]
    assert run.run(cfg) is None
    assert "in the tables already" in capsys.readouterr().err
    assert not config.run_folder(cfg).exists()


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    rows = pd.DataFrame({"step": range(1000)})
    thin = results._thin(rows)
    assert len(thin) == results.POINTS
    assert thin["step"].iloc[[0, -1]].tolist() == [0, 999]


def test_load_takes_the_presets_own_runs_only(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.make_tables(made, ["smoke"])
    assert results.load("fig6", results=made).empty  # max_updates=20 is not the preset's
    runs, _ = results.read("mnist", made)
    monkeypatch.setattr(results, "families_of", lambda experiment, scale=None: set(runs["family"]))
    frame = results.load("fig6", "smoke", made)
    assert frame["id"].nunique() == 12
    assert {"train/nll", "test/error"} <= set(frame["metric"])


def test_seeds_of_trials_never_mix_with_those_that_decide(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.make_tables(made, ["smoke"])
    shutil.copytree(made / "tables", tmp_path / "tables")
    runs, _ = results.read("mnist", tmp_path)
    (tmp_path / "tables" / "mnist_runs.csv").write_text(runs.assign(seed=[100, *runs["seed"][1:]]).to_csv(index=False))
    monkeypatch.setattr(results, "families_of", lambda experiment, scale=None: set(runs["family"]))
    assert set(results.load("fig6", "smoke", tmp_path)["id"]) == set(runs["id"][1:])
    monkeypatch.setattr(results, "is_trial", lambda experiment: True)
    assert set(results.load("fig6", "smoke", tmp_path)["id"]) == {runs["id"][0]}
    monkeypatch.undo()
    assert [name for name in results.experiments() if results.is_trial(name)] == ["fig2_rates"]


# --- what is committed ----------------------------------------------------------------------------------------------------


def test_each_norm_is_tuned_to_the_best_rate_of_the_committed_grid() -> None:
    frame = results.load("fig2_rates")
    best = frame[frame["metric"] == "valid/error"].groupby(["norm.name", "optimizer.lr", "seed"])["value"].min()
    of_rate = best.groupby(["norm.name", "optimizer.lr"]).mean()
    tuned = {cfg.norm.name: cfg.optimizer.lr for cfg in config.grid("fig2_tuned", "seed=0")}
    assert {norm: of_rate[norm].idxmin() for norm in tuned} == tuned
    seeds = {cfg.seed for cfg in config.grid("fig2_tuned")}
    assert not seeds & set(frame["seed"])


def test_committed_tables_name_clean_commits() -> None:
    for table in sorted((paths.RESULTS / "tables").glob("*_runs.csv")):
        runs = pd.read_csv(table, dtype=str)
        assert runs["commit"].str.fullmatch("[0-9a-f]{40}(; [0-9a-f]{40})*").all(), table.name
        assert (runs["dirty"] == "False").all(), table.name
        assert not runs["id"].duplicated().any()


@pytest.mark.parametrize("script", sorted((paths.ROOT / "scripts" / "figures").glob("*.py")), ids=lambda p: p.stem)
def test_figures_are_drawn_from_committed_tables(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from the tables alone, to the same bytes twice, by the command and by this process, and without a network."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tables").symlink_to(paths.RESULTS / "tables")
    done = call(str(script), "--results", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(sys, "argv", [str(script), "--results", str(tmp_path / "b")])
    runpy.run_path(str(script), run_name="__main__")
    drawn = [{p.name: p.read_bytes() for p in (tmp_path / place).glob("figures/*")} for place in ("a", "b")]
    assert drawn[0] == drawn[1]
    assert drawn[0] or "no runs of" in done.stdout
    assert set(drawn[0]) <= {p.name for p in (paths.RESULTS / "figures").iterdir()}, "run: make plots"
    assert re.match(r'"""(Figure|Table|Extension)', script.read_text())


def test_a_figure_without_runs_says_so(tmp_path: Path) -> None:
    script = paths.ROOT / "scripts" / "figures" / "fig6_mnist.py"
    done = call(str(script), "--results", tmp_path)
    assert done.returncode == 0
    assert "no runs of fig6" in done.stdout


def test_the_papers_curves_are_the_papers() -> None:
    """Points that paper-spec and the printed figure agree on."""
    curves = pd.read_csv(paths.PAPER / "curves.csv", keep_default_na=False)
    ln = curves[(curves["figure"] == "Figure 6") & (curves["panel"] == "bz128_err") & (curves["curve"] == "LN")]
    assert float(ln["y"].iloc[0]) == pytest.approx(0.0277, abs=1e-4)
    assert float(ln["y"].iloc[-1]) == pytest.approx(0.01295, abs=1e-4)
