"""Checks of a configuration and of a command line: the first mistake becomes a UserError that names the key and the value."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from lnexp import paths
from lnexp.errors import UserError, check_choice, check_integer, check_number, unknown

WANDB_MODES = ("auto", "online", "offline", "disabled")


def check(cfg: DictConfig) -> None:
    """Raise a UserError for the first value that is out of range."""
    from lnexp.tasks import TASKS
    from lnexp.training.optim import OPTIMIZERS

    for key, value in leaves(cfg):
        if value == "":
            raise UserError(f"{key} is empty: give {key}=VALUE, or null for none")
    check_integer("seed", cfg.seed, least=0)
    for key in ("batch_size", "log_every", "threads"):
        check_integer(key, cfg[key])
    for key in ("epochs", "max_updates", "eval_every", "evaluations", "early_evaluations", "checkpoint_every", "local_batches"):
        check_integer(key, cfg[key], optional=True)
    if cfg.epochs is None and cfg.max_updates is None:
        raise UserError("epochs=null and max_updates=null: one of them must end the run")
    if cfg.eval_every is not None and cfg.evaluations is not None:
        raise UserError(f"eval_every={cfg.eval_every} and evaluations={cfg.evaluations}: give one of them, the other null")
    check_number("optimizer.lr", cfg.optimizer.lr, above=0)
    for key in ("clip_norm", "clip_norm_each", "checkpoint_minutes"):
        check_number(key, cfg[key], above=0, optional=True)
    if cfg.ones_share not in (None, True):
        raise UserError(f"ones_share={cfg.ones_share}: allowed are true, null")
    check_choice("optimizer.name", cfg.optimizer.name, OPTIMIZERS)
    check_choice("skip", "null" if cfg.skip is None else cfg.skip, ("null", "tabled"))
    check_choice("wandb.mode", cfg.wandb.mode, WANDB_MODES)
    check_choice("WANDB_MODE", os.environ.get("WANDB_MODE") or "auto", WANDB_MODES)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} is not set: give {missing[0]}=...")
    check_options("task", cfg.task, TASKS[cfg.task.name])
    paper_data = TASKS[cfg.task.name].paper_data
    if cfg.scale == "paper" and paper_data and cfg.data.name not in paper_data:
        raise UserError(f"data={cfg.data.name}: scale=paper of task={cfg.task.name} wants data={' or '.join(paper_data)}")


def check_keys(cfg: DictConfig) -> None:
    """Raise a UserError for a key that is not in configs/config.yaml, or that is there and missing or replaced."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except InterpolationResolutionError as error:
        reason = str(error).splitlines()[0].split("raised while resolving interpolation: ")[-1]
        raise UserError(f"{error.full_key} follows from other values: {reason}; give {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    known: Any = OmegaConf.load(paths.CONFIGS / "config.yaml")
    groups = {"norm", "data", "task"}
    for key in map(str, cfg):
        if key not in {*known, *groups, "scale", "revision"}:
            near = get_close_matches(key, [*map(str, known), *groups], n=1)
            raise UserError(f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else ""))
    for key in [*known, *groups]:
        if key in ("defaults", "hydra"):
            continue
        if key not in cfg and not OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} is missing: every run needs it")
        inner = known.get(key)
        if key not in groups and not OmegaConf.is_dict(inner):
            continue
        if not OmegaConf.is_dict(cfg[key]):
            raise UserError(f"{key}={cfg[key]}: holds several values; give {key}.NAME=VALUE for one of them")
        for name in ["name"] if key in groups else map(str, inner):
            if name not in cfg[key] and not OmegaConf.is_missing(cfg[key], name):
                raise UserError(f"{key}.{name} is missing: every run needs it")


def check_options(group: str, cfg: DictConfig, make: Any) -> None:
    """Raise a UserError for the first option of `cfg` that `make` does not take, lacks, or annotates with another type."""
    hints, parameters = get_type_hints(make.__init__), inspect.signature(make).parameters
    options: Any = OmegaConf.to_container(cfg)
    where = f"{group}={options.pop('name')}"
    for name, value in options.items():
        if name not in parameters:
            allowed = ", ".join(n for n in parameters if n != "setting")
            raise UserError(f"{group}.{name}: {where} has no such option; there are {allowed}")
        if (wanted := wrong_type(value, hints[name])) is not None:
            raise UserError(f"{group}.{name}={value}: must be {wanted}")
    for name, parameter in parameters.items():
        if name != "setting" and name not in options and parameter.default is inspect.Parameter.empty:
            raise UserError(f"{group}.{name} is missing: {where} needs it")


def wrong_type(value: Any, hint: Any) -> str | None:
    """What a value must be, in words, if it is not of the annotated type; None if it is, or if the type is not a plain one."""
    kinds: dict[Any, tuple[Any, str]] = {
        int: (int, "whole number"),
        float: ((int, float), "number"),
        str: (str, "word"),
        bool: (bool, "truth value, true or false"),
    }
    of = [h for h in get_args(hint) if h is not NoneType] if get_origin(hint) in (Union, UnionType) else [hint]
    optional = NoneType in get_args(hint) and of != [hint]
    if value is None and optional:
        return None
    if len(of) == 1 and of[0] in kinds:
        allowed, words = kinds[of[0]]
        ok = isinstance(value, allowed) and isinstance(value, bool) == (of[0] is bool)
        return None if ok else f"a {words}" + ", or null" * optional
    if len(of) == 1 and get_origin(of[0]) in (list, Sequence) and get_args(of[0])[0] in kinds:
        each = get_args(of[0])[0]
        ok = isinstance(value, list) and all(wrong_type(v, each) is None for v in value)
        return None if ok else f"a list of {kinds[each][1]}s" + ", or null" * optional
    return None


def leaves(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values of a configuration with their dotted keys; those that are not set yet (???) are left out."""
    for key in map(str, cfg):
        if OmegaConf.is_missing(cfg, key):
            continue
        if OmegaConf.is_dict(cfg[key]):
            yield from leaves(cfg[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", cfg[key]


def check_choices(overrides: list[str]) -> None:
    """Raise a UserError for the first override that chooses a file which configs/ does not have."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        for override in OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides):
            group = override.key_or_group
            options = sorted(path.stem for path in (paths.CONFIGS / group).glob("*.yaml"))
            if not options and not group.startswith("hydra/"):
                continue
            several = override.is_sweep_override() and override.is_discrete_sweep()
            for value in list(override.sweep_string_iterator()) if several else [override.value()]:
                if value is None and override.is_delete():
                    continue
                if options and value not in options:
                    raise unknown(group, "null" if value is None else value, options)
                if not isinstance(value, str):
                    raise UserError(f"{group}={value}: must be the name of a file")
