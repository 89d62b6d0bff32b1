"""Load a trained model from the folder of its run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lnexp import config
from lnexp.errors import UserError
from lnexp.tasks.base import Task
from lnexp.training import checkpoint


def configuration(folder: Path) -> DictConfig:
    """The configuration of a run."""
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder}: not the folder of a run, which holds config.yaml")
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def weights(folder: Path) -> dict[str, Tensor]:
    """The best weights of a run, or the latest if the task saves no best ones."""
    if (best := checkpoint.load(folder / checkpoint.BEST)) is not None:
        return best
    for name in (checkpoint.LATEST, checkpoint.BEFORE):
        if (state := checkpoint.load(folder / name)) is not None:
            return state["model"]
    raise UserError(f"{folder}: holds no readable {checkpoint.BEST} or {checkpoint.LATEST}")


class Trained(NamedTuple):
    cfg: DictConfig
    task: Task
    model: nn.Module


def load(folder: Path, root: str | None = None, device: str = "cpu") -> Trained:
    """The task of a run with its data, and the model with the run's weights, in evaluation mode.

    Args:
        folder: results/runs/<task>/<run>.
        root: the folder of the data set, if it has moved since the run.
        device: torch device of the model.

    Raises:
        UserError: the folder is not that of a run, or its weights or its data are missing.
    """
    cfg, state = configuration(folder), weights(folder)
    if root is not None:
        cfg.data.root = root
    task = config.make_task(cfg, device)
    model = task.build(config.make_norm(cfg)).to(device)
    model.load_state_dict(state)
    return Trained(cfg, task, model.eval())
