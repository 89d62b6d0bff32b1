"""A trained model again, from the folder of its run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import nn

from lnexp import checkpoint, config
from lnexp.errors import UserError
from lnexp.tasks.base import Task


class Trained(NamedTuple):
    cfg: DictConfig
    task: Task
    model: nn.Module


def load(folder: Path, root: str | None = None, device: str = "cpu") -> Trained:
    """The task of a run with its data, and the model with the best weights (the latest where the task keeps no best), evaluating.

    Args:
        folder: results/runs/<task>/<run>.
        root: where the data set lies now, if not where it lay when the run was made.
        device: where the model is to work.

    Raises:
        UserError: the folder is not that of a run, or its weights or its data are missing.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder}: not the folder of a run, which holds config.yaml")
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    if root is not None:
        cfg.data.root = root
    weights = checkpoint.load(folder / checkpoint.BEST)
    if weights is None and (state := checkpoint.load(folder / checkpoint.LATEST)) is not None:
        weights = state["model"]
    if weights is None:
        raise UserError(f"{folder}: no weights in it; train.py writes {checkpoint.BEST} and {checkpoint.LATEST}")
    task = config.make_task(cfg, device)
    model = task.build(config.make_norm(cfg)).to(device)
    model.load_state_dict(weights)
    return Trained(cfg, task, model.eval())
