"""Mistakes of the user: shown as one line, never as a traceback."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A wrong value, a missing file, a full disk. Only the message is shown, and the exit code is 2."""


def unknown(key: str, value: object, allowed: Iterable[object]) -> UserError:
    """The error for a value that is not among the allowed ones; it names the nearest one."""
    options = sorted(map(str, allowed))
    near = get_close_matches(str(value), options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"{key}={value}: allowed are {', '.join(options)}{hint}")


def check_choice(key: str, value: object, allowed: Iterable[str]) -> None:
    """Raise a UserError unless `value` is one of `allowed`."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise unknown(key, value, allowed)


def check_integer(key: str, value: object, least: int = 1, optional: bool = False) -> None:
    """Raise a UserError unless `value` is an integer of at least `least`; with `optional`, None is allowed too."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{key}={value}: must be a whole number, {least} or more" + ", or null" * optional)


def check_number(
    key: str, value: object, least: float = -math.inf, above: float = -math.inf, below: float = math.inf, optional: bool = False
) -> None:
    """Raise a UserError unless `value` is a number with least <= value, above < value < below; NaN is not."""
    if value is None and optional:
        return
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not ok or not (value >= least and above < value < below):  # type: ignore[operator]
        limits = [f"{least:g} or more"] * (least > -math.inf) + [f"above {above:g}"] * (above > -math.inf)
        limits += [f"below {below:g}"] * (below < math.inf)
        raise UserError(f"{key}={value}: must be a number{' ' * bool(limits)}{' and '.join(limits)}" + ", or null" * optional)
