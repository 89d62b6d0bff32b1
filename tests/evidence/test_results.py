"""Tables and figures, from real smoke runs and from the committed tables."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from omegaconf import OmegaConf

from lnexp import config, paths
from lnexp.errors import UserError
from lnexp.evidence import plotting
from lnexp.evidence import tables as results
from lnexp.evidence.catalog import run_group, run_groups
from lnexp.evidence.figures import Figure
from lnexp.identity import digest, identity, run_folder, run_id
from lnexp.nn import NORMS
from lnexp.training import run
from tests.conftest import call, environ


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


def test_tables_outlive_runs_and_prune_drops_what_belongs_to_no_preset(made: Path, tmp_path: Path) -> None:
    results.make_tables(made, ["smoke"])
    (tmp_path / "tables").mkdir()
    for table in (made / "tables").iterdir():  # another machine's tables: its runs are not on this disk
        (tmp_path / "tables" / table.name).write_bytes(table.read_bytes())
    cfg = config.compose(["task=mnist", "scale=smoke", "data=idx", "data.root=x", "norm=ln"])
    (run_folder,) = [p for p in (made / "runs" / "mnist").iterdir() if p.name.startswith("ln-b4-s1")]
    (tmp_path / "runs" / "mnist").mkdir(parents=True)
    (tmp_path / "runs" / "mnist" / run_folder.name).symlink_to(run_folder)
    assert results.make_tables(tmp_path, ["smoke"]) == ["mnist: 12 runs, 1 of them from this disk"]
    assert results.recorded("mnist", tmp_path) == {f"mnist/{i}" for i in results.read("mnist", made)[0]["id"]}
    assert run_id(cfg) not in results.recorded("mnist", tmp_path)
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


def test_long_curves_are_thinned_and_keep_their_end(made: Path, tmp_path: Path) -> None:
    folder = copied_run(made, tmp_path)
    rows = [f"{step},0,{step}.0,train,loss,{1 / step}\n" for step in range(1, 1001)]
    (folder / "metrics.csv").write_text("step,epoch,seconds,split,metric,value\n" + "".join(rows))
    results.make_tables(tmp_path, ["smoke"])
    metrics = results.read("mnist", tmp_path)[1]
    assert len(metrics) == 100
    assert metrics["step"].iloc[[0, -1]].tolist() == [1, 1000]


def copied_run(made: Path, to: Path, start: str = "") -> Path:
    """A copy of the first run whose name starts with `start`, in the results folder `to`."""
    source = next(p for p in sorted((made / "runs" / "mnist").iterdir()) if p.name.startswith(start))
    return Path(shutil.copytree(source, to / "runs" / "mnist" / source.name))


def as_the_presets_own(made: Path, to: Path) -> pd.DataFrame:
    """Copies the tables to `to` with the run groups of fig6 at smoke scale, as if its runs had been on the preset's data."""
    results.make_tables(made, ["smoke"])
    shutil.copytree(made / "tables", to / "tables")
    runs, _ = results.read("mnist", to)
    groups = dict(zip(runs["family"].unique(), sorted(run_groups("fig6", "smoke")), strict=True))
    runs = runs.assign(family=runs["family"].map(groups))
    runs.to_csv(to / "tables" / "mnist_runs.csv", index=False)
    return runs


def test_load_takes_the_presets_own_runs_only(made: Path, tmp_path: Path) -> None:
    results.make_tables(made, ["smoke"])
    assert results.load("fig6", results=made).empty  # max_updates=20 is not the preset's
    as_the_presets_own(made, tmp_path)
    frame = results.load("fig6", "smoke", tmp_path)
    assert frame["id"].nunique() == 12
    assert {"train/nll", "test/error"} <= set(frame["metric"])
    assert results.load("fig6", "desk", tmp_path).empty


def test_trial_seeds_never_mix_with_those_that_decide(made: Path, tmp_path: Path) -> None:
    runs = as_the_presets_own(made, tmp_path)
    runs.assign(seed=[100, *runs["seed"][1:]]).to_csv(tmp_path / "tables" / "mnist_runs.csv", index=False)
    assert set(results.load("fig6", "smoke", tmp_path)["id"]) == set(runs["id"][1:])
    trials = [name for name in results.experiments() if results.is_trial(name)]
    assert (
        {"fig2_rates"}
        <= set(trials)
        == {name for name in results.experiments() if name.endswith("_rates")} - {"order_rates", "fig1_flickr8k_rates"}
    )
    assert (results.load("fig2_rates")["seed"] >= 100).all()


def test_a_run_is_recorded_under_the_revision_that_it_stores(made: Path, tmp_path: Path) -> None:
    """A later revision of the task neither renames an old run nor passes it off as a new one."""
    folder = copied_run(made, tmp_path)
    cfg = OmegaConf.load(folder / "config.yaml")
    values = {**identity(cfg), "revision": 99}  # type: ignore[arg-type]
    renamed = folder.rename(folder.with_name(f"{folder.name.rpartition('-')[0]}-{digest(values)}"))
    (line,) = results.make_tables(tmp_path, ["smoke"])  # it stores revision 1, which gives another hash
    assert str(renamed) in line
    assert "left out" in line
    (renamed / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.merge(cfg, {"revision": 99})))
    assert results.make_tables(tmp_path, ["smoke"]) == ["mnist: 1 runs, 1 of them from this disk"]
    (row,) = results.read("mnist", tmp_path)[0].to_dict("records")
    assert (row["id"], row["revision"], row["family"]) == (renamed.name, 99, run_group(values))


@pytest.mark.parametrize("name", ["config.yaml", "env.json", "summary.json", "metrics.csv"])
@pytest.mark.parametrize("text", ["", "[1", "{a: 1}", '{"a": 1}', "[1]", None])
def test_a_run_whose_files_cannot_be_read_is_left_out(made: Path, tmp_path: Path, name: str, text: str | None) -> None:
    whole, broken = copied_run(made, tmp_path, "bn-b4-s0"), copied_run(made, tmp_path, "ln-b4-s0")
    if text is None:
        (broken / name).unlink()
    else:
        (broken / name).write_text(text)
    *lines, total = results.make_tables(tmp_path, ["smoke"])
    assert total == "mnist: 1 runs, 1 of them from this disk"
    assert all(line.startswith(f"{broken}: ") and line.endswith("left out; remove it and run it again") for line in lines)
    assert len(lines) == (0 if (name, text) == ("summary.json", None) else 1)  # without a summary it is not finished
    assert list(results.read("mnist", tmp_path)[0]["id"]) == [whole.name]


def test_a_run_that_does_not_match_its_configuration_is_left_out(made: Path, tmp_path: Path) -> None:
    folder = copied_run(made, tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("lr: 0.001", "lr: 0.002"))
    assert text != (folder / "config.yaml").read_text()
    (line,) = results.make_tables(tmp_path, ["smoke"])
    assert line.startswith(f"{folder}: ")
    assert "left out" in line
    assert not (tmp_path / "tables").exists()


def with_data(folder: Path, data: str | None) -> None:
    """Writes another digest of the data into a run's env.json, or none, as in older runs."""
    starts = json.loads((folder / "env.json").read_text())
    for start in starts:
        start.pop("data", None)
        start |= {"data": {"digest": data, "files": {}}} if data else {}
    (folder / "env.json").write_text(json.dumps(starts))


def test_what_older_runs_lack_is_recorded_where_a_run_has_it(made: Path, tmp_path: Path) -> None:
    old, new = copied_run(made, tmp_path, "bn-b4-s0"), copied_run(made, tmp_path, "ln-b4-s0")
    pd.read_csv(old / "metrics.csv").drop(columns="cpu_seconds").to_csv(old / "metrics.csv", index=False)
    with_data(new, "abc")
    with_data(old, None)
    results.make_tables(tmp_path, ["smoke"])
    runs, metrics = results.read("mnist", tmp_path)
    assert runs.set_index("id")["data_digest"].to_dict() == {old.name: pytest.approx(float("nan"), nan_ok=True), new.name: "abc"}
    assert list(metrics.columns[:4]) == ["id", "step", "epoch", "seconds"]
    assert set(metrics.loc[metrics["cpu_seconds"].notna(), "id"]) == {new.name}
    written = {p.name: p.read_bytes() for p in (tmp_path / "tables").iterdir()}
    shutil.rmtree(tmp_path / "runs")
    results.make_tables(tmp_path, ["smoke"])
    assert {p.name: p.read_bytes() for p in (tmp_path / "tables").iterdir()} == written


def test_runs_of_one_configuration_on_different_data_are_refused(made: Path, tmp_path: Path) -> None:
    for seed, data in (("0", "abc"), ("1", "xyz")):
        with_data(copied_run(made, tmp_path, f"bn-b4-s{seed}"), data)
    with_data(copied_run(made, tmp_path, "ln-b4-s0"), "abc")
    with_data(copied_run(made, tmp_path, "ln-b4-s1"), None)  # unknown data: agrees with any
    line, total = results.make_tables(tmp_path, ["smoke"])
    assert re.fullmatch(r"mnist: .*bn-b4-s0-\w+ on data abc; bn-b4-s1-\w+ on data xyz.*: left out", line)
    assert total == "mnist: 2 runs, 2 of them from this disk"
    runs = as_the_presets_own(made, tmp_path / "merged")  # tables of two machines, merged by hand
    runs.assign(data_digest=runs["seed"].map({0: "abc", 1: "xyz"})).to_csv(
        tmp_path / "merged" / "tables" / "mnist_runs.csv", index=False
    )
    with pytest.raises(UserError, match="different data"):
        results.load("fig6", "smoke", tmp_path / "merged")


def test_committed_tables_stay_the_same_bytes_without_new_runs(tmp_path: Path) -> None:
    shutil.copytree(paths.RESULTS / "tables", tmp_path / "tables")
    results.make_tables(tmp_path)
    for table in (paths.RESULTS / "tables").iterdir():
        assert (tmp_path / "tables" / table.name).read_bytes() == table.read_bytes(), table.name


def test_plain_tables_need_no_runs(tmp_path: Path) -> None:
    assert results.read_plain("invariance", tmp_path).empty
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "invariance.csv").write_text("norm,scale,change\nln,2,0\n")
    assert results.read_plain("invariance", tmp_path).to_dict("records") == [{"norm": "ln", "scale": 2, "change": 0}]
    assert results.make_tables(tmp_path) == []


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


def all_figures(*arguments: object) -> subprocess.CompletedProcess:
    return call("scripts/make_figures.py", *arguments)


def test_figures_are_drawn_from_committed_tables(tmp_path: Path) -> None:
    """All by one command, from the tables alone and to the committed bytes; each script names what it draws."""
    (tmp_path / "tables").symlink_to(paths.RESULTS / "tables")
    done = all_figures("--results", tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert drawn == {p.name: p.read_bytes() for p in (paths.RESULTS / "figures").iterdir()}, "run: make plots"
    for script in (paths.ROOT / "scripts" / "figures").glob("*.py"):
        assert re.match(r'"""(Figure|Table|Extension)', script.read_text()), (
            f"{script.name}: its docstring starts with one of these"
        )


def test_one_figure_by_name_or_by_its_own_script(tmp_path: Path) -> None:
    (tmp_path / "tables").symlink_to(paths.RESULTS / "tables")
    assert all_figures("fig1", "--results", tmp_path).returncode == 0
    assert call("scripts/figures/table2_order_embeddings.py", "--results", tmp_path).returncode == 0
    for name in ("fig1.png", "fig1_flickr8k_table2.md"):
        assert (tmp_path / "figures" / name).read_bytes() == (paths.RESULTS / "figures" / name).read_bytes()
    assert len(list((tmp_path / "figures").iterdir())) == 2
    done = all_figures("fig66", "--results", tmp_path)
    assert done.returncode == 2
    assert "did you mean fig6?" in done.stderr


def test_figures_import_neither_torch_nor_hydra(tmp_path: Path) -> None:
    code = "import sys; import lnexp.evidence.figures as f; f.load('fig6'); print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, env=environ())
    assert done.stdout == "set()\n", done.stderr


def test_a_norm_without_a_style_of_its_own_is_drawn() -> None:
    """Neither new norms nor those that the catalog does not know are left out of a figure, or look alike."""
    rows = [
        {"id": f"{norm}-{seed}", "seed": seed, "norm.name": norm, "step": step, "metric": "test/error", "value": 1 / step}
        for norm in ("ln", "mine", "yours")
        for seed in (0, 1)
        for step in (1, 2, 3)
    ]
    figure, ax = plt.subplots()
    plotting.arms(ax, pd.DataFrame(rows), "test/error", "step")
    lines, names = ax.get_legend_handles_labels()
    plt.close(figure)
    assert names == ["layer norm (n=2)", "mine (n=2)", "yours (n=2)"]
    assert len({(line.get_color(), line.get_marker()) for line in lines if isinstance(line, Line2D)}) == 3


def test_every_norm_looks_different() -> None:
    assert len({plotting.norm_style(norm) for norm in NORMS}) == len(NORMS)


def test_a_figure_of_a_plain_table(tmp_path: Path) -> None:
    figure = Figure("invariance", lambda table: f"{len(table)} rows\n", table="invariance")
    assert "there is no" in figure.save(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "invariance.csv").write_text("norm,change\nln,0\nbn,1\n")
    figure.save(tmp_path)
    assert (tmp_path / "figures" / "invariance.md").read_text() == "2 rows\n"


def test_a_figure_without_runs_says_so(tmp_path: Path) -> None:
    done = all_figures("fig6", "--results", tmp_path)
    assert done.returncode == 0
    assert "no runs of fig6" in done.stdout
    assert not (tmp_path / "figures").exists()


def test_the_papers_curves_are_the_papers() -> None:
    """Points that paper-spec and the printed figure agree on."""
    curves = pd.read_csv(paths.PAPER / "curves.csv", keep_default_na=False)
    ln = curves[(curves["figure"] == "Figure 6") & (curves["panel"] == "bz128_err") & (curves["curve"] == "LN")]
    assert float(ln["y"].iloc[0]) == pytest.approx(0.0277, abs=1e-4)
    assert float(ln["y"].iloc[-1]) == pytest.approx(0.01295, abs=1e-4)
