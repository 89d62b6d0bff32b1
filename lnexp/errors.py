"""Mistakes of the user: told in one line, never as a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A wrong value, a missing file, a full disk: the message is all that is shown, and the exit code is 2."""


def unknown(key: str, value: object, allowed: Iterable[object]) -> UserError:
    """The error for a value that is not among the allowed ones, naming the nearest right one."""
    options = sorted(map(str, allowed))
    near = get_close_matches(str(value), options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"{key}={value}: allowed are {', '.join(options)}{hint}")
