"""The real commands, run by copies of a process that has imported everything: in a second, not in six."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lnexp import paths

PYTHON = (sys.executable,)  # a launcher: a new process


def environ(**changed: str | None) -> dict[str, str]:
    """The environment with some variables changed, those that are None left out."""
    return {k: v for k, v in {**os.environ, **changed}.items() if v is not None}


def train(*overrides: str, launcher: tuple[str, ...] | None = None, **changed: str | None) -> subprocess.CompletedProcess:
    """The real command, as a user gives it, in a changed environment. Without a launcher, such as PYTHON, by `call`."""
    if launcher is None:
        return call("train.py", *overrides, **changed)
    command = [*launcher, str(paths.ROOT / "train.py"), *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=environ(**changed), cwd=paths.ROOT, timeout=300)


def call(path: str, *arguments: object, **changed: str | None) -> subprocess.CompletedProcess:
    """A script of the repository, run to its end."""
    started = Started(path, *arguments, **changed)
    code = started.wait(300)
    return subprocess.CompletedProcess([path, *arguments], code, *started.said())


class Started:
    """A script of the repository, running by itself."""

    def __init__(self, path: str, *arguments: object, **changed: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        argv = [str(paths.ROOT / path), *map(str, arguments)]
        self.process = server().Process(target=_script, args=(argv, environ(**changed), self.folder))
        self.process.start()

    def running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def wait(self, seconds: float) -> int:
        """Its exit code; that of a signal where it does not end in time."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def said(self) -> tuple[str, str]:
        """Its output and its errors, so far."""
        output, errors = ((self.folder / name).read_text() if (self.folder / name).exists() else "" for name in ("out", "err"))
        return output, errors


@cache
def server() -> multiprocessing.context.BaseContext:
    """Where such copies come from. Where forks are not safe, each process imports everything anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lnexp.training.run", "lnexp.tasks", "lnexp.cli", "lnexp.evidence.plotting", "torch._dynamo"])
    return context


def _script(argv: list[str], environment: dict[str, str], folder: Path) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(paths.ROOT)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")
