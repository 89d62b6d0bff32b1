"""What stands between the command line and Hydra: mistakes told in one line, and how many runs a grid has."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches

from hydra._internal.utils import get_args_parser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from lnexp.errors import UserError, unknown

JOBS = "LNEXP_JOBS"  # how many runs the grid has; in the environment, so that launched processes know it too
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


def cli(main: Callable[[], None]) -> int:
    """Call Hydra's main function; 0 when all is well, 2 after a mistake of the user, 130 after Ctrl-C."""
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
        print("Stopped. The same command goes on from the last checkpoint.", file=sys.stderr)
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
    """What Hydra calls for each run. In a grid, a run that cannot be made is told at once and the others go on."""
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
    """A user's mistake in one line, None where the fault is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return (
            f"{error.strerror} ({error.filename or 'while writing'}); what was saved stays: make room and give the same command"
        )
    if isinstance(error, OSError) and error.errno in NO_ACCESS:
        return f"cannot write {error.filename}: {error.strerror}; choose another place with results_dir= and data_dir="
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(unknown(group, value, error.options))
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: give name=value, with quotes around values that hold spaces or commas"
    if isinstance(error, ConfigCompositionException):
        return _composition(str(error), overrides)
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    return None


def _composition(message: str, overrides: list[str]) -> str:
    """Hydra's complaint about a key, with the nearest right one."""
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
    """All keys that can be set beside the given overrides, with dots."""
    from lnexp.config import compose

    def dotted(values: dict, prefix: str = "") -> set[str]:
        inner = (dotted(v, f"{prefix}{k}.") for k, v in values.items() if isinstance(v, dict))
        return {f"{prefix}{k}" for k in values}.union(*inner)

    values = OmegaConf.to_container(compose(overrides))
    assert isinstance(values, dict)
    return dotted(values) | {"experiment"}
