"""Command-line entry of train.py: mistakes of the user become one line, several runs become a grid."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lnexp import script
from lnexp.checks import check_choices
from lnexp.errors import UserError, unknown

# Hydra's options: those without a value, those with one, and the values that are allowed where they are few.
SHORT = {"-h": "--help", "-m": "--multirun", "-r": "--run", "-c": "--cfg", "-p": "--package", "-i": "--info"}
SHORT |= {"-sc": "--shell-completion", "-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir"}
ALONE = {"--help", "--hydra-help", "--version", "--multirun", "--run", "--resolve", "--shell-completion", "--info"}
VALUED = {"--cfg", "--package", "--config-path", "--config-name", "--config-dir"}
VALUES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
COMMANDS = {"--run", "--multirun", "--cfg", "--info", "--shell-completion"}


def cli(main: Callable[[], None]) -> int:
    """Call Hydra's main function. Returns 0, 2 after a mistake of the user, 130 when interrupted, 141 when nobody reads on."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us, not to Hydra's own printer
    overrides: list[str] = []
    try:
        options, overrides = arrange(sys.argv[1:])
        if "--help" in options:
            from lnexp.help import text

            print(text())
            return 0
        if "--shell-completion" not in options:
            check_choices(overrides)
        commands = {option.partition("=")[0] for option in options} & COMMANDS
        if "--multirun" in commands or (not commands and any(o.startswith("experiment=") for o in overrides)):
            from lnexp.grid import make_all

            make_all(main, overrides, explain)
        else:
            sys.argv[1:] = [*options, *overrides]
            main()
    except KeyboardInterrupt:
        print("Stopped. The same command continues from the last checkpoint.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return script.unread()
    except Exception as error:
        if getattr(error, "printed", False):
            return 2
        mistake = None if getattr(error, "fault", False) else explain(error, overrides)
        if mistake is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def arrange(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options and overrides of a command line, which may stand in any order. Hydra wants the options first.

    Raises:
        UserError: an option is unknown, lacks its value, or contradicts another one.
    """
    options: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if name not in ALONE | VALUED or (equals and name in ALONE - {"--info"}):
            near = get_close_matches(name, ALONE | VALUED, n=1)
            hint = f"did you mean {near[0]}?" if near else "values are given as name=value, see train.py --help"
            raise UserError(f"{word}: there is no such option; {hint}")
        options.append(name)
        if name == "--info" and not equals and rest and rest[0] in VALUES[name]:
            equals, value = "=", rest.pop(0)
        elif name == "--info" and not equals:
            equals, value = "=", "all"  # else Hydra takes the next word for the value
        elif name in VALUED and not equals:
            if not rest or "=" in rest[0]:
                raise UserError(f"{word} needs a value" + (f": {', '.join(VALUES[name])}" if name in VALUES else ""))
            equals, value = "=", rest.pop(0)
        if equals:
            if name in VALUES and value not in VALUES[name]:
                raise unknown(name, value, VALUES[name])
            options[-1] = f"{name}={value}"
    given = {option.partition("=")[0] for option in options}
    if len(given & COMMANDS) > 1:
        raise UserError(f"{' and '.join(sorted(given & COMMANDS))}: give one of them")
    if "--resolve" in given and "--cfg" not in given:
        raise UserError("--resolve: only beside --cfg")
    if "--multirun" in given and given & VALUED:
        raise UserError(f"{min(given & VALUED)}: not beside --multirun")
    return options, overrides


def explain(error: Exception, overrides: list[str]) -> str | None:
    """One line for a mistake of the user; None for a fault of the code."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(unknown(group, value, error.options))
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, ConfigCompositionException):
        return _composition(error, overrides)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _line(error)
    return script.explain(error)


def _unreadable(override: str) -> str:
    """What to type in place of an override that Hydra cannot parse."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[+~]*[\w./@]+", key):
        return f"cannot read {override!r}: give name=value"
    return f"cannot read {override!r}: type {_typed(key, value)}"


def _typed(key: str, value: str) -> str:
    """The override as it must be typed, without quotes around the value and with ~ expanded."""
    from lnexp.data.sources import override_text

    return override_text(key, os.path.expanduser(value.strip("'\"")))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _composition(error: ConfigCompositionException, overrides: list[str]) -> str:
    """Hydra's error about a key, with the nearest existing one."""
    message = str(error)
    if match := re.search(r"You must specify '(\S+?)'", message):
        options = re.findall(r"^\s+(\S+)$", message, flags=re.MULTILINE)
        return f"{match[1]} is not set: give {match[1]}=..., one of {', '.join(options)}"
    if match := re.search(r"Could not override '([^']+)'", message):
        key = match[1].partition("@")[0]
        keys = sorted(_keys([o for o in overrides if o.lstrip("+~").partition("=")[0] != key]))
        near = get_close_matches(key, keys, n=1)
        return f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(keys)}")
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", message):
        one = _typed(match[1], match[2])
        return f"{match[1]}={match[2]}: several values; add -m for a run of each, or, for one value, type {one}"
    causes = [_line(error)]
    if error.__cause__ is not None and _line(error.__cause__) not in causes[0]:
        causes.append(_line(error.__cause__))
    return ": ".join(causes)


def _keys(overrides: list[str]) -> set[str]:
    """All keys that can be set beside the given overrides, dotted; those of the default task where these do not compose."""
    from lnexp.config import compose

    def dotted(values: dict, prefix: str = "") -> set[str]:
        inner = (dotted(v, f"{prefix}{k}.") for k, v in values.items() if isinstance(v, dict))
        return {f"{prefix}{k}" for k in values}.union(*inner)

    try:
        cfg = compose(overrides)
    except (HydraException, OmegaConfBaseException):
        cfg = compose(["task=mnist"])
    values = OmegaConf.to_container(cfg)
    assert isinstance(values, dict)
    return dotted(values) | {"experiment"}
