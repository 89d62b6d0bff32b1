"""The entry of every command besides train.py: mistakes of the user become one line and exit code 2."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

from lnexp.errors import UserError

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


def script(main: Callable[[], object]) -> int:
    """Call `main`. Returns 0, 2 after a mistake of the user, 130 after Ctrl-C, 141 after a broken pipe; other exceptions pass."""
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped. The same command continues from what is saved.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return unread()
    except (UserError, OSError) as error:
        if (mistake := explain(error)) is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def unread() -> int:
    """What ends a command whose output nobody reads any more, as in `... | head`: 141, as a shell says it, and no message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still flushes at the end
    return 128 + signal.SIGPIPE


def explain(error: Exception) -> str | None:
    """One line for a mistake of the user or a full or read-only disk; None for a fault of the code."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        place = error.filename or "while writing"
        return f"{error.strerror} ({place}); what was saved stays: make room and give the same command"
    if isinstance(error, OSError) and error.errno in NO_ACCESS:
        return f"cannot write {error.filename}: {error.strerror}; choose another place with results_dir= and data_dir="
    return None
