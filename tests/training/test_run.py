"""A run is its configuration and its data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lnexp import config
from lnexp.errors import UserError
from lnexp.training.run import run
from tests.conftest import write_idx


@pytest.fixture
def other_digits(digits: Path, tmp_path: Path) -> Path:
    """The same files with the labels of the test set in another order."""
    folder = shutil.copytree(digits, tmp_path / "others")
    write_idx(folder / "t10k-labels-idx1-ubyte", np.random.default_rng(1).integers(0, 10, 200).astype(np.uint8))
    return folder


def with_root(overrides: list[str], root: Path) -> list[str]:
    return [o for o in overrides if not o.startswith("data.root")] + [f"data.root={root}", "wandb.mode=disabled"]


@pytest.mark.parametrize("stage", ["finished", "interrupted"])
def test_other_data_under_the_same_name_are_refused(stage: str, smoke: list[str], other_digits: Path, digits: Path) -> None:
    settings = config.read(config.compose(with_root(smoke, digits)))
    assert (summary := run(settings.cfg)) is not None
    entry = json.loads((settings.folder / "env.json").read_text())[0]["data"]
    assert set(entry["files"]) == {p.name for p in digits.iterdir()} and len(entry["digest"]) == 16
    if stage == "interrupted":
        (settings.folder / "summary.json").unlink()
    before = (settings.folder / "metrics.csv").read_bytes()
    with pytest.raises(
        UserError, match=r"made from other data \(t10k-labels-idx1-ubyte.gz differs\): give data.set=NAME"
    ) as error:
        run(config.compose(with_root(smoke, other_digits)))
    assert "fresh=true" in str(error.value) and "data.set=NAME" in str(error.value)
    assert (settings.folder / "metrics.csv").read_bytes() == before
    moved = shutil.copytree(digits, other_digits.parent / "moved")  # the same data at another place are the same run
    again = run(config.compose(with_root(smoke, moved)))
    assert again is not None and again["final"] == summary["final"]


def test_fresh_moves_the_old_run_aside(smoke: list[str], other_digits: Path, digits: Path, tmp_path: Path) -> None:
    settings = config.read(config.compose(with_root(smoke, digits)))
    run(settings.cfg)
    old = (settings.folder / "metrics.csv").read_bytes()
    for k in (1, 2):
        assert run(config.compose([*with_root(smoke, other_digits), "fresh=true"])) is not None
        aside = tmp_path / "results" / "replaced" / f"{settings.id}-{k}"
        assert (aside / "summary.json").exists() and (settings.folder / "summary.json").exists()
    assert (tmp_path / "results" / "replaced" / f"{settings.id}-1" / "metrics.csv").read_bytes() == old
    assert len(json.loads((settings.folder / "env.json").read_text())) == 1


def test_runs_without_a_record_of_their_data_are_accepted(smoke: list[str], other_digits: Path, digits: Path) -> None:
    settings = config.read(config.compose(with_root(smoke, digits)))
    summary = run(settings.cfg)
    starts = json.loads((settings.folder / "env.json").read_text())
    del starts[0]["data"]
    (settings.folder / "env.json").write_text(json.dumps(starts))
    assert run(config.compose(with_root(smoke, other_digits))) == summary


def test_the_set_is_named_by_its_file_or_folder(smoke_of: dict[str, list[str]], storied: Path) -> None:
    """Without data.set, the name is what the file says, or the folder's; and it enters the identity."""
    for task, name in (("order_embeddings", "tiny"), ("skip_thoughts", storied.name)):
        given = [o for o in smoke_of[task] if not o.startswith("data.set")]
        settings = config.read(config.compose(given))
        assert settings.identity["data"]["set"] == name
        assert settings.id == config.read(config.compose([*given, f"data.set={name}"])).id
