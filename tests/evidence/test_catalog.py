"""The catalog: what is committed is what the code and the configuration give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lnexp import paths
from lnexp.config import grid
from lnexp.errors import UserError
from lnexp.evidence import catalog
from lnexp.identity import identity
from lnexp.nn import NORMS, Norm
from lnexp.tasks import TASKS


def test_the_committed_catalog_is_current() -> None:
    assert json.loads(catalog.PATH.read_text()) == catalog.build(), "remove the file, then: make tables"


def test_an_unchanged_configuration_is_not_composed_again(tmp_path: Path) -> None:
    stored = json.loads(catalog.PATH.read_text())
    marked = {**stored, "presets": {"marked": {}}, "norms": {}}
    (tmp_path / "catalog.json").write_text(json.dumps(marked))
    catalog.write(tmp_path / "catalog.json")
    assert json.loads((tmp_path / "catalog.json").read_text()) == {**stored, "presets": {"marked": {}}}


@pytest.mark.parametrize("experiment", ["fig2_tuned", "gain_sensitivity", "order_width"])
def test_run_groups_are_those_of_the_composed_grid(experiment: str) -> None:
    """Values set on a composed configuration give what Hydra gives for the whole command."""
    for scale in ("smoke", "paper"):
        expected = {catalog.run_group(identity(cfg)) for cfg in grid(experiment, "seed=3", f"scale={scale}")}
        assert catalog.run_groups(experiment, scale) == expected


def test_it_holds_what_tasks_and_norms_declare() -> None:
    for name, task in TASKS.items():
        assert catalog.differences(name) == list(task.differences)
        assert [(c["metric"], c["better"]) for c in catalog.curves(name)] == [(c.metric, c.better) for c in task.curves]
    assert {catalog.label(norm) for norm in NORMS} == {norm.label for norm in NORMS.values()}


def test_an_unknown_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean fig2_tuned"):
        catalog.task_of("fig2_tund")


def test_changed_configuration_and_new_norms_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Mine(Norm):
        """A new norm."""

        name = "mine"
        label = "my norm"

    shutil.copytree(paths.CONFIGS, tmp_path / "configs")
    for path in (tmp_path / "configs" / "experiment").glob("*.yaml"):
        path.unlink()
    preset = paths.CONFIGS / "experiment" / "fig1.yaml"
    of_mine = preset.read_text().replace("norm: none,ln", "norm: none") + "max_updates: ${choose:${scale},{desk:10}}\n"
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(of_mine)
    monkeypatch.setattr(paths, "CONFIGS", tmp_path / "configs")
    monkeypatch.setitem(NORMS, "mine", Mine)
    catalog.catalog.cache_clear()
    try:
        assert catalog.experiments() == ["mine"]
        assert "`make tables` updates the file" in capsys.readouterr().err
        assert len(catalog.run_groups("mine", "desk")) == 1
        assert catalog.run_groups("mine", "paper") == set()  # no max_updates there
        assert catalog.label("mine") == "my norm"
    finally:
        catalog.catalog.cache_clear()
