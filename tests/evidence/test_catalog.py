"""The catalog: what is committed is what the code and the configuration give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lnexp import paths
from lnexp.config import grid, identity
from lnexp.errors import UserError
from lnexp.evidence import catalog
from lnexp.nn import NORMS, Norm
from lnexp.tasks import TASKS


def test_the_committed_catalog_is_current() -> None:
    assert json.loads(catalog.PATH.read_text()) == catalog.build(), "run: make tables"


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
        """A norm without a label of its own."""

        name = "mine"

    shutil.copytree(paths.CONFIGS, tmp_path / "configs")
    for path in (tmp_path / "configs" / "experiment").glob("*.yaml"):
        path.unlink()
    preset = paths.CONFIGS / "experiment" / "fig1.yaml"
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(preset.read_text().replace("norm: none,ln", "norm: none"))
    monkeypatch.setattr(paths, "CONFIGS", tmp_path / "configs")
    monkeypatch.setitem(NORMS, "mine", Mine)
    catalog.catalog.cache_clear()
    try:
        assert catalog.experiments() == ["mine"]
        assert "`make tables` updates the file" in capsys.readouterr().err
        assert len(catalog.run_groups("mine", "desk")) == 1
        assert catalog.label("mine") == "mine"
    finally:
        catalog.catalog.cache_clear()
