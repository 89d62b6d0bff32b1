"""Command-line entry of train.py: turns mistakes of the user into one-line errors, and runs all jobs of a grid."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches

from hydra._internal.utils import get_args_parser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from lnexp import script
from lnexp.errors import UserError, unknown

JOBS = "LNEXP_JOBS"  # number of runs of the grid; an environment variable, so that launched processes have it too


def cli(main: Callable[[], None]) -> int:
    """Call Hydra's main function. Returns 0, 2 after a mistake of the user, 130 after Ctrl-C or SIGTERM."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us, not to Hydra's own printer
    given, _ = get_args_parser().parse_known_args()
    overrides = given.overrides
    if given.help and not any(o.startswith("task=") for o in overrides):
        sys.argv.append("task=mnist")  # Hydra composes a configuration even to print its help
    try:
        if given.multirun or any(o.startswith("experiment=") for o in overrides):
            from lnexp.config import expand

            os.environ[JOBS] = str(len(expand(overrides)))
        main()
    except KeyboardInterrupt:
        print("Stopped. The same command continues from the last checkpoint.", file=sys.stderr)
        return 130
    except Exception as error:
        mistake = explain(error, overrides)
        if mistake is None:
            raise
        if not getattr(error, "told", False):
            print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def one_job(cfg: DictConfig) -> None:
    """Make one run for Hydra. In a grid the error of a run is printed at once, and the other runs are made."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from lnexp.training.run import run

    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        try:
            run(cfg)
        except (UserError, OSError) as error:
            if (mistake := explain(error, [])) is None:
                raise
            print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)  # which Hydra lets pass, without a line of its own
        return
    place = f"{hydra.job.num + 1} of {os.environ.get(JOBS, '?')}"
    alone = hydra.runtime.choices["hydra/launcher"] == "basic"  # several bars at once would overwrite one another
    try:
        run(cfg, place, bar=None if alone else False)
    except (UserError, OSError) as error:
        if (mistake := explain(error, [])) is None:
            raise
        print(f"error: run {place}: {mistake}", file=sys.stderr)
        error.told = True  # type: ignore[union-attr]
        raise


def explain(error: Exception, overrides: list[str]) -> str | None:
    """One line for a mistake of the user; None for a fault of the code."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(unknown(group, value, error.options))
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: give name=value, with quotes around values that hold spaces or commas"
    if isinstance(error, ConfigCompositionException):
        return _composition(str(error), overrides)
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    return script.explain(error)


def _composition(message: str, overrides: list[str]) -> str:
    """Hydra's error about a key, with the nearest existing one."""
    if match := re.search(r"You must specify '(\S+?)'", message):
        options = re.findall(r"^\s+(\S+)$", message, flags=re.MULTILINE)
        return f"{match[1]} is not set: give {match[1]}=..., one of {', '.join(options)}"
    if match := re.search(r"Could not override '([^']+)'", message):
        key = match[1].partition("@")[0]
        keys = sorted(_keys([o for o in overrides if o.lstrip("+~").partition("=")[0] != key]))
        near = get_close_matches(key, keys, n=1)
        return f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(keys)}")
    return " ".join(message.split())


def _keys(overrides: list[str]) -> set[str]:
    """All keys that can be set beside the given overrides, dotted."""
    from lnexp.config import compose

    def dotted(values: dict, prefix: str = "") -> set[str]:
        inner = (dotted(v, f"{prefix}{k}.") for k, v in values.items() if isinstance(v, dict))
        return {f"{prefix}{k}" for k in values}.union(*inner)

    values = OmegaConf.to_container(compose(overrides))
    assert isinstance(values, dict)
    return dotted(values) | {"experiment"}
