"""Tables, claims, figures and report, from real smoke runs and from made-up ones."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lnexp import config, paths
from lnexp.evidence import claims
from lnexp.evidence import tables as results
from lnexp.evidence.claims import CLAIMS, Claim, arm, contrasts, decide, ledger
from lnexp.evidence.effects import Ahead, Better, BetterAtBest, Faster, LosesLess, Measure, Series, Steadier
from lnexp.evidence.report import report
from lnexp.identity import run_folder, run_id
from lnexp.tasks import TASKS
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
    assert run_id(cfg) not in results.tabled("mnist", tmp_path)
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
    assert not run_folder(cfg).exists()


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


# --- claims, on tables that are made up -----------------------------------------------------------------------------------


def made_up(values: dict[tuple[str, int], list[list[float]]], status: str = "finished") -> pd.DataFrame:
    """(norm, batch) -> one curve of test error and train nll a seed, evaluated every 10 updates."""
    rows = []
    for (norm, batch), curves in values.items():
        for seed, curve in enumerate(curves):
            for k, value in enumerate(curve):
                common = {
                    "id": f"{norm}-{batch}-{seed}",
                    "seed": seed,
                    "norm.name": norm,
                    "batch_size": batch,
                    "task.name": "mnist",
                }
                common |= {
                    "step": 10 * (k + 1),
                    "seconds": 2.0 * (k + 1),
                    "status": status,
                    "scale": "desk",
                    "data": "made up",
                }
                rows += [{**common, "metric": m, "value": value} for m in ("train/nll", "test/error")]
    return pd.DataFrame(rows)


def claim(measure: Measure, *arms: dict) -> Claim:
    return Claim("x", "nowhere", "made up", "fig6", measure, arms)


def test_lower() -> None:
    c = claim(Better("test/error"), arm("ln", 4), arm("bn", 4))
    better = made_up({("ln", 4): [[3, 1.0 + 0.01 * s] for s in range(5)], ("bn", 4): [[3, 2.0] for _ in range(5)]})
    assert decide(c, better).verdict == "supported"
    assert decide(c, better).mean == pytest.approx(0.98)
    worse = made_up({("ln", 4): [[3, 2.0 + 0.01 * s] for s in range(5)], ("bn", 4): [[3, 1.0] for _ in range(5)]})
    assert decide(c, worse).verdict == "contradicted"
    few = made_up({("ln", 4): [[3, 1.0]] * 4, ("bn", 4): [[3, 2.0]] * 4})
    assert decide(c, few).verdict == "not run"
    assert decide(c, made_up({("ln", 4): [[3, 1.0]] * 5})).verdict == "not run"


def test_faster_is_the_share_of_updates_to_the_best_that_both_reach() -> None:
    c = claim(Faster("train/nll"), arm("ln", 128), arm("none", 128))
    frame = made_up({("ln", 128): [[4, 2, 1, 0.5]], ("none", 128): [[4, 3, 2, 1]]})
    assert np.exp(-contrasts(c, frame)[0]) == pytest.approx(30 / 40)
    between = made_up({("ln", 128): [[4, 0, 0, 0]], ("none", 128): [[4, 3, 2, 1]]})
    assert np.exp(-contrasts(c, between)[0]) == pytest.approx(17.5 / 40)  # crosses 1 three quarters of the way from 4 to 0
    slower = made_up({("ln", 128): [[4, 3, 2.5, 2]], ("none", 128): [[4, 2, 1, 0.5]]})
    assert np.exp(-contrasts(c, slower)[0]) == pytest.approx(40 / 20)
    seconds = claim(Faster("train/nll", "seconds"), arm("ln", 128), arm("none", 128))
    assert contrasts(seconds, frame)[0] == pytest.approx(contrasts(c, frame)[0])


def test_ahead_is_the_mean_lead_over_the_run() -> None:
    c = claim(Ahead("train/nll"), arm("ln", 128), arm("none", 128))
    frame = made_up({("ln", 128): [[4, 2, 1]], ("none", 128): [[4, 3, 4]]})
    assert contrasts(c, frame)[0] == pytest.approx((0 + 1 + 3) / 3)
    rare = frame[(frame["norm.name"] == "none") | (frame["step"] != 20)]  # evaluated less often: interpolated
    assert contrasts(c, rare)[0] == pytest.approx((0 + 0.5 + 3) / 3)
    short = made_up({("ln", 128): [[4, 2]], ("none", 128): [[4, 3, 4]]})
    short.loc[short["norm.name"] == "ln", "status"] = "diverged"  # from then on it has the worst value of all, 4
    assert contrasts(c, short)[0] == pytest.approx((0 - 1 + 0) / 3)


def test_loses_less() -> None:
    c = claim(LosesLess("test/error"), arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128))
    frame = made_up({("ln", 4): [[2.0]], ("ln", 128): [[1.5]], ("bn", 4): [[4.0]], ("bn", 128): [[1.0]]})
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 0.5)


def test_better_at_best_forgets_how_a_run_ends() -> None:
    c = claim(BetterAtBest("test/error"), arm("ln", 4), arm("bn", 4))
    frame = made_up({("ln", 4): [[3.0, 1.0, 9.0]], ("bn", 4): [[3.0, 2.0, 2.0]]})
    assert contrasts(c, frame)[0] == pytest.approx(1.0)


def test_steadier_compares_the_spread_of_best_values_over_settings() -> None:
    sizes = (1, 2, 3, 4, 5)  # batch sizes stand for the settings
    c = claim(Steadier("test/error"), *(arm(norm, size) for norm in ("ln", "bn") for size in sizes))
    best = {"ln": (2.0, 2.5, 2.1, 2.2, 2.3), "bn": (1.0, 4.0, 2.0, 2.0, 2.0)}
    frame = made_up({(norm, size): [[9.0, value]] for norm in best for size, value in zip(sizes, best[norm], strict=True)})
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 0.5)


def test_a_diverged_run_counts_as_the_worst() -> None:
    c = claim(Better("test/error"), arm("ln", 4), arm("bn", 4))
    frame = made_up({("ln", 4): [[3.0, 1.0]], ("bn", 4): [[3.0, 0.5]]})
    frame.loc[frame["norm.name"] == "bn", "status"] = "diverged"
    assert contrasts(c, frame)[0] == pytest.approx(3.0 - 1.0)


def test_what_is_measured_before_any_update_decides_nothing() -> None:
    c = claim(BetterAtBest("test/error"), arm("ln", 4), arm("bn", 4))
    frame = made_up({("ln", 4): [[0.1, 0.5, 0.4]], ("bn", 4): [[0.2, 0.5, 0.3]]}).assign(step=lambda f: f["step"] - 10)
    np.testing.assert_allclose(contrasts(c, frame), [-0.1])


def test_two_runs_of_one_seed_in_an_arm_are_refused() -> None:
    c = claim(Better("test/error"), arm("ln", 4), arm("bn", 4))
    frame = made_up({("ln", 4): [[1.0]], ("bn", 4): [[2.0]]})
    twice = pd.concat([frame, frame.assign(id="other")])
    with pytest.raises(ValueError, match="several runs of one seed"):
        contrasts(c, twice)


def test_arms_must_fit_the_measure() -> None:
    with pytest.raises(ValueError, match="compares 2 arms, not 1"):
        claim(Better("test/error"), arm("ln", 4))


def test_series_of_one_point() -> None:
    series = Series(np.array([10]), np.array([1.0]), np.array([2.0]))
    assert series.late() == 2.0
    assert series.reaches(3.0, "updates") == 10
    assert series.reaches(1.0, "updates") == 10


def test_claims_name_presets_and_curves_that_exist() -> None:
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    assert {c.experiment for c in CLAIMS} <= set(results.experiments())
    grids = {experiment: config.grid(experiment, "seed=0") for experiment in {c.experiment for c in CLAIMS}}
    for c in CLAIMS:
        assert claims.better_of(results.task_of(c.experiment), c.measure.metric) in ("lower", "higher")
        for of_arm in c.arms:
            runs = grids[c.experiment]
            matching = [cfg for cfg in runs if all(OmegaConf.select(cfg, key) == value for key, value in of_arm.items())]
            assert len(matching) == 1, (c.id, of_arm)


# --- what is committed ----------------------------------------------------------------------------------------------------


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


def test_each_departure_from_the_paper_is_told_once() -> None:
    text = report(paths.RESULTS)
    for task in {config.compose([f"experiment={name}"]).task.name for name in results.experiments()}:
        assert TASKS[task].differences
        for sentence in TASKS[task].differences:
            assert text.count(f"- {sentence}\n") == 1


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
