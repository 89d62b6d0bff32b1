"""Files and folders that are whole or absent: written under a temporary name, then renamed; prepared by one process at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE = 24 * 3600  # seconds after which the temporary file of a killed process is removed


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: at every moment `path` holds either its old or its new content.

    The temporary file has a unique name, so that several processes may write the same path; the last rename wins.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _remove_stale(path)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process uses: .NAME.PID-RANDOM.tmp."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _remove_stale(path: Path) -> None:
    """Remove the temporary files and folders of `path` that killed processes have left."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(".tmp"):
                with suppress(OSError):  # removed by another process
                    if time.time() - entry.stat().st_mtime > STALE:
                        shutil.rmtree(entry) if entry.is_dir() else os.unlink(entry)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, by a lock file .NAME.lock beside it; it is released if the process dies."""
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_open_as(lock, file.fileno()):
                continue  # removed by its last holder while this process waited
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_open_as(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def prepared(folder: Path, make: Callable[[Path], None], files: Iterable[str], resume: bool = False) -> Path:
    """A folder whose content is made once, at first use.

    Of several processes one calls `make`; the others wait for it. A folder that is complete already is only read, so it may lie
    on a read-only file system.

    Args:
        folder: the folder to make.
        make: fills the temporary folder that it is given, which is then renamed to `folder`.
        files: names of files that a complete folder holds.
        resume: after an interruption, call `make` on the unfinished folder again. Else it starts from an empty one.

    Returns:
        `folder`, complete.
    """

    def complete() -> bool:
        return all((folder / name).exists() for name in files)

    files = tuple(files)
    if complete():
        return folder
    with locked(folder):
        if complete():  # made by another process in the meantime
            return folder
        unfinished = folder.with_name(f".{folder.name}.unfinished") if resume else temporary_name(folder)
        unfinished.mkdir(exist_ok=resume)
        try:
            make(unfinished)
            shutil.rmtree(folder, ignore_errors=True)  # incomplete: a file was deleted, or an older version was interrupted
            os.rename(unfinished, folder)
        except BaseException:
            if not resume:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _remove_stale(folder)
    return folder
