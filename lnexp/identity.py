"""Identity of a run: the values that determine its numbers, and the hash of them that names its folder.

Identities are stable. Knobs can be added, renamed and removed without renaming the runs that were made before:

- a knob whose value is null is omitted;
- a knob added later is omitted at the value that reproduces earlier runs (`LATER`, and `Task.later_knobs` for `task.*`);
- a renamed knob enters under its old name (`RENAMED`).

Any other change of a value, a changed default in a yaml file included, gives another identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Keys that say where and how a run is made, but do not change its numbers.
MACHINE = {"device", "threads", "checkpoint_every", "checkpoint_minutes", "results_dir", "data_dir"}
MACHINE |= {"skip", "plan", "fresh", "samples", "wandb"}
LATER: dict[str, Any] = {"norm.synchronised": False}  # dotted key -> the value at which it was introduced
RENAMED: dict[str, str] = {}  # dotted key today -> dotted key under which it is hashed


def identity(cfg: DictConfig) -> dict[str, Any]:
    """The values of a configuration that determine a run's numbers, with the revision of its task.

    A stored configuration carries the revision of the task that made the run; a new one takes today's.
    """
    from omegaconf import OmegaConf

    from lnexp.tasks import TASKS

    values: Any = OmegaConf.to_container(cfg, resolve=True)
    task = TASKS[cfg.task.name]
    values.setdefault("revision", task.revision)
    values = {key: value for key, value in values.items() if key not in MACHINE}
    values["data"] = {key: value for key, value in values["data"].items() if not key.endswith("root")}  # folders may move
    return canonical(values, LATER | {f"task.{key}": value for key, value in task.later_knobs.items()}, RENAMED)


def canonical(values: Mapping[str, Any], later: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Nested `values` in the form that is hashed: without nulls, sorted, with the rules of this module applied.

    Args:
        later: dotted key -> value at which the key is omitted.
        renamed: dotted key -> dotted key under which its value is hashed.
    """
    nested: dict[str, Any] = {}
    for key, value in sorted((renamed.get(key, key), value) for key, value in _leaves(values) if later.get(key) != value):
        *parents, last = key.split(".")
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return nested


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def digest(values: Mapping[str, Any]) -> str:
    """The first 8 hexadecimal digits of the sha256 of an identity."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def run_id(cfg: DictConfig) -> str:
    """<task>/<norm>-b<batch>-s<seed>-<hash of the identity>."""
    return f"{cfg.task.name}/{cfg.norm.name}-b{cfg.batch_size}-s{cfg.seed}-{digest(identity(cfg))}"


def run_folder(cfg: DictConfig) -> Path:
    """The folder of a run: <results_dir>/runs/<run id>."""
    return Path(cfg.results_dir) / "runs" / run_id(cfg)
