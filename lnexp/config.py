"""From a configuration to the task, the norm and the folder of a run. A run is its configuration: same values, same folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lnexp import paths
from lnexp.errors import UserError, unknown

if TYPE_CHECKING:
    from lnexp.nn import Norm
    from lnexp.tasks.base import Task

# Keys that say where and how a run is made but not what comes out. All others are its identity.
MACHINE = {"device", "threads", "checkpoint_every", "results_dir", "data_dir", "skip", "plan", "wandb"}


OPTIMIZERS = ("adam", "adam_slip", "rmsprop")


def register_resolvers() -> None:
    """Make known to the configuration files ${root:}, the repository's folder, and ${choose:k,{a:1,b:2}}, the value at key k."""
    OmegaConf.register_new_resolver("root", lambda: str(paths.ROOT), replace=True)
    OmegaConf.register_new_resolver("choose", choose, replace=True)


def choose(key: str, values: dict[str, Any]) -> Any:
    """The value that goes with a key; a UserError that says which keys have one where none does."""
    if key not in values:
        raise UserError(f"there is none for {key}, only for {', '.join(values)}")
    return values[key]


def identity(cfg: DictConfig) -> dict[str, Any]:
    """What determines the numbers of a run, nulls left out (so that a new knob whose null means "off" renames no old run)."""
    from lnexp.tasks import TASKS

    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_nulls(v) for k, v in sorted(value.items()) if v is not None}
        return value

    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    values = {k: v for k, v in values.items() if k not in MACHINE}
    values["data"] = {k: v for k, v in values["data"].items() if not k.endswith("root")}  # the same set may lie anywhere
    values["revision"] = TASKS[cfg.task.name].revision
    return without_nulls(values)


def run_id(cfg: DictConfig) -> str:
    """<task>/<norm>-b<batch>-s<seed>-<hash of the identity>."""
    digest = hashlib.sha256(json.dumps(identity(cfg), sort_keys=True).encode()).hexdigest()[:8]
    return f"{cfg.task.name}/{cfg.norm.name}-b{cfg.batch_size}-s{cfg.seed}-{digest}"


def run_folder(cfg: DictConfig) -> Path:
    return Path(cfg.results_dir) / "runs" / run_id(cfg)


def make_norm(cfg: DictConfig) -> Norm:
    """The norm of a run, or a UserError that names the key, the value and what is allowed."""
    from lnexp.nn import NORMS

    options = OmegaConf.to_container(cfg.norm)
    assert isinstance(options, dict)
    name = options.pop("name")
    if name not in NORMS:
        raise unknown("norm", name, NORMS)
    try:
        norm = NORMS[name](**options)  # type: ignore[arg-type]
        norm.check_batch(cfg.batch_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    return norm


def make_task(cfg: DictConfig, device: str) -> Task:
    """The task of a run with its data ready, or a UserError that says what is missing."""
    from lnexp.tasks import TASKS

    options: Any = OmegaConf.to_container(cfg.task)
    make: Any = TASKS[options.pop("name")]
    return make(**options, data=cfg.data, data_dir=Path(cfg.data_dir), device=device)


def check(cfg: DictConfig) -> None:
    """Raise a UserError for the first value that is out of range."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except InterpolationResolutionError as error:
        reason = str(error).splitlines()[0].partition("interpolation: ")[2]
        raise UserError(f"{error.full_key} follows from other values: {reason}; give {error.full_key}=...") from error
    number = (int, float)
    at_least = {"seed": (int, 0), "batch_size": (int, 1), "epochs": (int, 1), "max_updates": (int, 1), "log_every": (int, 1)}
    at_least |= {"eval_every": (int, 1), "evaluations": (int, 1), "checkpoint_every": (int, 1), "threads": (int, 1)}
    optional = {"epochs", "max_updates", "eval_every", "evaluations", "checkpoint_every"}
    for key, (kind, least) in at_least.items():
        value = cfg[key]
        if value is None and key in optional:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or value < least:
            raise UserError(f"{key}={value}: must be a whole number, {least} or more" + (", or null" * (key in optional)))
    if cfg.epochs is None and cfg.max_updates is None:
        raise UserError("epochs=null and max_updates=null: one of them must end the run")
    if not isinstance(cfg.optimizer.lr, number) or not 0 < cfg.optimizer.lr < float("inf"):
        raise UserError(f"optimizer.lr={cfg.optimizer.lr}: must be a number above 0")
    for key in ("clip_norm", "clip_norm_each"):
        if cfg[key] is not None and (not isinstance(cfg[key], number) or cfg[key] <= 0):
            raise UserError(f"{key}={cfg[key]}: must be a number above 0, or null")
    if cfg.eval_every is not None and cfg.evaluations is not None:
        raise UserError(f"eval_every={cfg.eval_every} and evaluations={cfg.evaluations}: give one of them, the other null")
    for key, allowed in {"optimizer.name": OPTIMIZERS, "skip": ("null", "tabled")}.items():
        value = OmegaConf.select(cfg, key)
        if str("null" if value is None else value) not in allowed:
            raise unknown(key, value, allowed)
    if cfg.wandb.mode not in (modes := ("auto", "online", "offline", "disabled")):
        raise unknown("wandb.mode", cfg.wandb.mode, modes)
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} is not set: give {missing[0]}=...")
    from lnexp.tasks import TASKS

    allowed_data = TASKS[cfg.task.name].paper_data
    if cfg.scale == "paper" and allowed_data and cfg.data.name not in allowed_data:
        raise UserError(f"data={cfg.data.name}: scale=paper of task={cfg.task.name} wants data={' or '.join(allowed_data)}")


def choose_device(name: str) -> str:
    """The torch device of a run: "auto" takes the first GPU where there is one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; allowed are auto, cpu")
    return str(name)


def compose(overrides: list[str]) -> DictConfig:
    """The configuration that `python train.py OVERRIDES` would use for a single run."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    register_resolvers()
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        return hydra_compose("config", overrides)


def expand(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run that `python train.py -m OVERRIDES` makes, in order, as Hydra's own sweeper expands them."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    register_resolvers()
    parser = OverridesParser.create()
    given = parser.parse_overrides(overrides)
    fixed = [o.input_line or "" for o in given if not o.is_sweep_override()]
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        sweeper = hydra_compose("config", [*fixed, *_first_choices(given)], return_hydra_config=True).hydra.sweeper
    named = {o.key_or_group for o in given}
    swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items() if key not in named]
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*swept, *overrides]), max_batch_size=None)
    return [list(job) for job in jobs]


def _first_choices(given: list) -> list[str]:
    """One value of each swept key, so that a grid over tasks can be composed to find its preset."""
    return [f"{o.key_or_group}={next(o.sweep_string_iterator())}" for o in given if o.is_sweep_override()]


def grid(experiment: str, *overrides: str) -> list[DictConfig]:
    """The configurations of all runs of a preset."""
    return [compose(job) for job in expand([f"experiment={experiment}", *overrides])]
