"""From a command line to a configuration, and from a configuration to what a run needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lnexp import paths
from lnexp.checks import check, check_keys, check_options
from lnexp.errors import UserError, check_choice, unknown
from lnexp.identity import identity, run_folder, run_id

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from lnexp.data.sources import Fingerprint
    from lnexp.nn import Norm
    from lnexp.tasks.base import Task

HYDRA = re.compile(r"[+~]*hydra[./@]")  # begins an override of Hydra's own configuration


@dataclass(frozen=True)
class Settings:
    """What a run needs, from its checked configuration.

    Attributes:
        cfg: the configuration.
        id: "<task>/<norm>-b<batch>-s<seed>-<hash>".
        folder: where the run writes.
        identity: the values that determine its numbers.
        norm: the normalisation.
        device: a torch device.
    """

    cfg: DictConfig
    id: str
    folder: Path
    identity: dict[str, Any]
    norm: Norm
    device: str

    def make_task(self, device: str | None = None) -> Task:
        """The task, with its data loaded."""
        return make_task(self.cfg, device or self.device)

    def fingerprint(self) -> Fingerprint:
        """What identifies the data of the run: a digest of the files that it reads."""
        return _fingerprint(OmegaConf.to_yaml(self.cfg.data))


@cache
def _fingerprint(data: str) -> Fingerprint:
    """Of data in yaml; one of several runs on the same files reads them."""
    from lnexp.data.loaders import fingerprint

    values: Any = OmegaConf.create(data)
    return fingerprint(values)


def read(cfg: DictConfig) -> Settings:
    """Check a configuration and derive what a run needs.

    Raises:
        UserError: a value is out of range; the message names the key, the value and what is allowed.
    """
    from lnexp.data.loaders import default_set
    from lnexp.tasks import TASKS

    check_keys(cfg)
    cfg = cfg.copy()
    data = cfg.data
    if OmegaConf.is_missing(data, "set") and not OmegaConf.is_missing(data, "root"):
        data.set = default_set(data)  # not where it is null: there earlier runs have no data.set in their names
    check(cfg)
    with open_dict(cfg):
        cfg.revision = TASKS[cfg.task.name].revision  # stored with the run, so that its identity can be computed for ever
    return Settings(cfg, run_id(cfg), run_folder(cfg), identity(cfg), make_norm(cfg), choose_device(cfg.device))


def register_resolvers() -> None:
    """Register ${root:}, the repository's folder, and ${choose:k,{a:1,b:2}}, the value at key k."""
    OmegaConf.register_new_resolver("root", lambda: str(paths.ROOT), replace=True)
    OmegaConf.register_new_resolver("choose", choose, replace=True)


def choose(key: str, values: dict[str, Any]) -> Any:
    """values[key], or a UserError that lists the keys."""
    if key not in values:
        raise UserError(f"there is none for {key}, only for {', '.join(values)}")
    return values[key]


def make_norm(cfg: DictConfig) -> Norm:
    """The norm of a configuration, or a UserError."""
    from lnexp.nn import NORMS

    options = OmegaConf.to_container(cfg.norm)
    assert isinstance(options, dict)
    name = options.pop("name")
    check_choice("norm", name, NORMS)
    check_options("norm", cfg.norm, NORMS[name])
    try:
        norm = NORMS[name](**options)  # type: ignore[arg-type]
        if cfg.get("local_batches") is not None:
            norm.split(cfg.local_batches)
        norm.check_batch(cfg.batch_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    return norm


def make_task(cfg: DictConfig, device: str) -> Task:
    """The task of a configuration, its data loaded, or a UserError that says what is missing."""
    from lnexp.tasks import TASKS
    from lnexp.tasks.base import Setting

    options: Any = OmegaConf.to_container(cfg.task)
    data: Any = OmegaConf.to_container(cfg.data)
    make: Any = TASKS[options.pop("name")]
    return make(Setting(data, Path(cfg.data_dir), device), **options)


def choose_device(name: str) -> str:
    """A torch device for `device=`: "auto" is the first GPU where there is one, else the CPU."""
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
    """The configuration of the single run `python train.py OVERRIDES`."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    inside = GlobalHydra.instance().is_initialized()  # in a run that Hydra has launched
    with nullcontext() if inside else initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        cfg = hydra_compose("config", overrides)
    if cfg.wandb.group is None:
        cfg.wandb.group = next((o.partition("=")[2] for o in overrides if o.startswith("experiment=")), None)
    return cfg


def expand(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run that `python train.py -m OVERRIDES` makes, in the order of Hydra's basic sweeper.

    Several presets (experiment=a,b) give all runs of the first, then all runs of the second. Overrides of Hydra's own
    configuration, such as hydra/launcher=joblib, are left out.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    register_resolvers()
    jobs: list[list[str]] = []
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # the loader expands glob(*)
        of_hydra = [o for o in overrides if HYDRA.match(o)]
        given = {o.get_key_element(): _each(o) for o in parser.parse_overrides([o for o in overrides if o not in of_hydra])}
        for experiment in given.pop("experiment", [""]):
            chosen = {**given, **({"experiment": [experiment]} if experiment else {})}
            first = [*of_hydra, *(each[0] for each in chosen.values())]
            params: Mapping[str, Any] = hydra_compose("config", first, return_hydra_config=True).hydra.sweeper.params or {}
            swept = parser.parse_overrides([f"{key}={value}" for key, value in params.items() if key not in chosen])
            axes = {o.get_key_element(): _each(o) for o in swept} | chosen
            jobs += map(list, product(*axes.values()))
    return jobs


def _each(override: Override) -> list[str]:
    """An override for each value that the command line gives its key, one or several."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: an interval has no list of values; give them, or range(start,stop,step)")
    each = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not each:
        raise UserError(f"{override.input_line}: matches nothing")
    return each


def grid(experiment: str, *overrides: str) -> list[DictConfig]:
    """The configurations of all runs of a preset."""
    return [compose(job) for job in expand([f"experiment={experiment}", *overrides])]
