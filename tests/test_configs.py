"""Configuration: everything composes, tables match files, and a run is its configuration."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from lnexp import paths
from lnexp.checks import check, check_keys
from lnexp.config import compose, expand, grid, make_norm, read
from lnexp.errors import UserError
from lnexp.evidence.claims import CLAIMS
from lnexp.evidence.tables import experiments, is_trial, run_groups, task_of
from lnexp.identity import MACHINE, canonical, identity, run_id
from lnexp.nn import NORMS
from lnexp.tasks import TASKS


def stems(group: str) -> set[str]:
    return {p.stem for p in (paths.CONFIGS / group).glob("*.yaml")}


def test_tables_and_files_name_the_same_things() -> None:
    for group, table in (("task", TASKS), ("norm", NORMS)):
        for name in stems(group) ^ set(table):
            lacks = "a line in the table" if name in stems(group) else f"configs/{group}/{name}.yaml"
            raise AssertionError(f"{group} {name} is in one place only: add {lacks}")
    assert stems("task_scale") <= {f"{t}_{s}" for t in TASKS for s in stems("scale")}
    assert {f"{t}_{s}" for t in TASKS for s in ("smoke", "desk")} <= stems("task_scale")


@pytest.mark.parametrize("group", ["task", "norm", "scale", "data", "experiment"])
def test_every_choice_says_what_it_is(group: str) -> None:
    """`train.py --help` shows the first comment of each file."""
    for path in (paths.CONFIGS / group).glob("*.yaml"):
        first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
        assert re.match(r"# [A-Z].{10,}", first), f"{path}: begin with a comment that says in a sentence what {path.stem} is"


def test_every_key_has_a_comment() -> None:
    for path in paths.CONFIGS.rglob("*.yaml"):
        if path.parts[-2] in ("experiment", "configs") and path.name != "config.yaml":
            continue
        text = path.read_text().partition("\nhydra:")[0]
        for line in text.splitlines():
            if re.match(r"\s*[\w.]+: \S", line) and not re.match(r"\s*(name|scale|root: null)", line):
                said = "#" in line or "_self_" in line
                assert said, f"{path}: add a comment with the source of the value ('# paper 6.4', '# ours'): {line.strip()}"


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("scale", ["smoke", "desk", "paper"])
def test_every_choice_composes(task: str, norm: str, scale: str) -> None:
    cfg = compose([f"task={task}", f"norm={norm}", f"scale={scale}"])
    assert cfg.scale == scale
    assert make_norm(cfg).name == norm
    assert re.fullmatch(rf"{task}/{norm}-b\d+-s0-[0-9a-f]{{8}}", run_id(cfg))


@pytest.mark.parametrize("name", experiments())
def test_every_preset_makes_as_many_runs_as_its_header_says(name: str) -> None:
    header = (paths.CONFIGS / "experiment" / f"{name}.yaml").read_text()
    said = re.search(r"= (\d+) runs", header)
    assert said, f"{name}.yaml: state the number of runs in the header, as '= N runs'"
    runs = expand([f"experiment={name}"])
    assert len(runs) == len(set(map(tuple, runs)))
    assert len(runs) == int(said[1]), f"{name}.yaml: its header says {said[1]} runs, its grid has {len(runs)}: correct the header"
    assert is_trial(name) == ("decides no claim" in header), f"{name}.yaml: say 'decides no claim' where all seeds are trials"
    seeds = {override for run in runs for override in run if override.startswith("seed=")}
    for claim in CLAIMS:
        assert claim.experiment != name or len(seeds) >= len(claim.seeds), f"claim {claim.id}: {name} has {len(seeds)} seeds"


def test_a_value_that_follows_from_another_is_chosen_by_it_or_wanted() -> None:
    cfg = compose(["experiment=gain_sensitivity", "scale=smoke"])
    check(cfg)
    assert (cfg.max_updates, compose(["experiment=gain_sensitivity"]).max_updates) == (30, 1500)
    cfg.scale = "huge"
    message = "max_updates follows from other values: there is none for huge, only for smoke, desk, paper; give max_updates=..."
    with pytest.raises(UserError, match=re.escape(message)):
        check_keys(cfg)
    cfg.max_updates = 7
    check(cfg)


def test_the_command_line_has_the_last_word_over_a_preset() -> None:
    assert {cfg.seed for cfg in grid("fig6", "seed=7,8")} == {7, 8}
    assert {cfg.batch_size for cfg in grid("fig6", "batch_size=4")} == {4}
    assert len(expand(["task=mnist", "norm=ln,bn", "seed=range(3)"])) == 6


def test_several_presets_give_all_runs_of_each() -> None:
    jobs = expand(["experiment=fig1,permuted_mnist", "seed=0"])
    assert len(jobs) == len(expand(["experiment=fig1", "seed=0"])) + len(expand(["experiment=permuted_mnist", "seed=0"]))
    assert {compose(job).task.name for job in jobs} == {"order_embeddings", "permuted_mnist"}


def test_globs_expand_to_all_choices() -> None:
    assert {compose(job).norm.name for job in expand(["task=mnist", "norm=glob(*)"])} == set(NORMS)


def test_what_the_machine_decides_is_not_part_of_a_run() -> None:
    base = run_id(compose(["task=mnist"]))
    for override in (
        "device=cpu",
        "threads=2",
        "wandb.mode=offline",
        "results_dir=/x",
        "data_dir=/y",
        "skip=tabled",
        "plan=true",
        "samples=false",
        "checkpoint_minutes=3",
    ):
        assert run_id(compose(["task=mnist", override])) == base, override
    for override in (
        "seed=1",
        "optimizer.lr=0.1",
        "epochs=3",
        "norm.gain=0.5",
        "scale=paper",
        "task.train_examples=7",
        "log_every=7",
    ):
        assert run_id(compose(["task=mnist", override])) != base, override
    assert MACHINE.isdisjoint(identity(compose(["task=mnist"])))


def test_the_revision_of_a_task_is_part_of_the_identity_and_stored_with_a_run() -> None:
    cfg = compose(["task=mnist"])
    stored = read(cfg).cfg
    assert (stored.revision, run_id(stored)) == (TASKS["mnist"].revision, run_id(cfg))
    stored.revision += 1
    assert run_id(stored) != run_id(cfg)


def test_knobs_can_be_added_renamed_and_removed_without_renaming_runs() -> None:
    """The rules of `lnexp.identity`, on values of the test's own."""
    first = {"seed": 0, "task": {"name": "t", "size": 3}}
    assert canonical({**first, "new": None}, {}, {}) == first  # null: off
    assert canonical({**first, "new": 7}, {"new": 7}, {}) == first  # at the value of its introduction
    assert canonical({**first, "new": 8}, {"new": 7}, {}) == {**first, "new": 8}
    renamed = {"seed": 0, "task": {"name": "t", "hidden_size": 3}}
    assert canonical(renamed, {}, {"task.hidden_size": "task.size"}) == first
    assert canonical({"seed": 0, "task": {"name": "t", "size": 3, "mode": {"deep": 1}}}, {"task.mode.deep": 1}, {}) == first


def test_knobs_of_tasks_that_came_later_keep_old_names() -> None:
    for task, declared in TASKS.items():
        base = compose([f"task={task}"])
        for key, value in declared.later_knobs.items():
            assert base.task[key] == value, (task, key)  # the default reproduces earlier runs
            assert key not in identity(base)["task"]
    per_gate = compose(["task=skip_thoughts", "task.placement=per_gate"])
    assert identity(per_gate)["task"]["placement"] == "per_gate"


def test_presets_have_the_ids_of_the_committed_runs() -> None:
    """Every preset, composed today, names the runs that were made before: nothing has been renamed."""
    for task in TASKS:
        if not (table := paths.RESULTS / "tables" / f"{task}_runs.csv").exists():  # no runs yet
            continue
        runs = pd.read_csv(table, dtype=str)
        composed = {
            group
            for name in experiments()
            if task_of(name) == task
            for scale in sorted(set(runs["scale"]))
            for group in run_groups(name, scale)  # equal to those of the composed grid: tests/evidence/test_catalog.py
        }
        lost = sorted(runs[~runs["family"].isin(composed)]["id"])
        assert not lost, (
            f"{task}: no preset gives {lost[:2]} (and {max(0, len(lost) - 2)} more) any more; a new knob belongs into {task}'s "
            "later_knobs or lnexp.identity.LATER, with the value of these runs; a renamed one into lnexp.identity.RENAMED"
        )
