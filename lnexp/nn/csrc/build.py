"""Compile the kernels with the machine's compiler, once, and load them.

The library lies in ~/.cache/lnexp (or $LNEXP_CACHE) under a name made of everything that decides what it contains, so that a
folder may be shared by machines whose processors differ. One process compiles and others wait for it. Without a compiler there
is one line of warning and no library.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

try:
    import fcntl
except ImportError:  # not on Windows, where processes do not wait for one another
    fcntl = None  # type: ignore[assignment]

SOURCES = Path(__file__).parent
LONGEST = 600.0  # seconds that a compiler may take, and that a process waits for another one
_WARNED = "LNEXP_WARNED"  # environment variable: the warning already printed by this process or the one that started it
_lock = threading.Lock()


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had. The first call ever takes seconds, later ones nothing."""
    with _lock:
        return _load()


def _renew_lock() -> None:
    """A fork copies a lock that another thread may hold, and does not copy that thread."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@cache
def _load() -> ctypes.CDLL | None:
    compiler = shlex.split(os.environ.get("CXX", "")) or [c for c in ("c++", "g++", "clang++") if shutil.which(c)][:1]
    try:
        if not compiler:
            raise OSError("no C++ compiler found")
        folder, why = _cache_folder()
        path = folder / f"kernels-{_key(compiler)}.so"
        if not path.exists():
            with _locked(path.with_suffix(".lock")):
                if not path.exists():
                    _compile(compiler, path, why)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())[:200]
        if os.environ.get(_WARNED) != reason:
            what = "layers and order violations run without their compiled kernels, more slowly"
            print(f"lnexp: {what} ({reason})", file=sys.stderr)
            os.environ[_WARNED] = reason
        return None


def _cache_folder() -> tuple[Path, str]:
    """Where the library lies; and, if it is not the usual place, why."""
    try:
        folder = Path(os.environ.get("LNEXP_CACHE") or Path.home() / ".cache" / "lnexp")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder, ""
    except (OSError, RuntimeError) as error:  # a read-only home, or none: a folder of this user alone among the temporary files
        folder = Path(tempfile.gettempdir()) / f"lnexp-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            mine = not hasattr(os, "getuid") or (folder.lstat().st_uid == os.getuid() and folder.lstat().st_mode & 0o777 == 0o700)
        except OSError:
            mine = False
        return (folder if mine and not folder.is_symlink() else Path(tempfile.mkdtemp(prefix="lnexp-"))), str(error)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file as a lock between processes; after LONGEST seconds, go on without it.

    The system frees the lock of a process that is killed, whatever becomes of the file.
    """
    handle, end = -1, time.monotonic() + LONGEST
    while fcntl is not None and time.monotonic() < end:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                break  # otherwise another process has made a new file
        except BlockingIOError:
            time.sleep(0.05)
        except FileNotFoundError:  # its holder has removed it
            pass
        except OSError:  # a file system without locks
            end = 0.0
        os.close(handle)
        handle = -1
    try:
        yield
    finally:
        if handle >= 0:
            path.unlink(missing_ok=True)
            os.close(handle)


def _flags() -> list[str]:
    tune = "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"
    return ["-std=c++17", "-O3", tune, "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]


def _key(compiler: list[str]) -> str:
    """A digest of the sources, flags, compiler, processor's features, and torch, whose OpenMP runtime is used."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    digest = hashlib.sha256("\n".join([*compiler, *_flags(), version, _processor(), torch.__version__]).encode())
    for source in sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.cpp")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"


def _compile(compiler: list[str], path: Path, why: str) -> None:
    """Compile into a temporary file, then rename it: nobody ever sees half of it."""
    print(
        f"lnexp: compiling the kernels for this machine (once, some ten seconds) into {path}" + (f" ({why})" if why else ""),
        file=sys.stderr,
        flush=True,
    )
    for left in path.parent.glob("kernels-*.part"):  # by compilers that were killed
        if time.time() - left.stat().st_mtime > LONGEST:
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.stem}-", suffix=".part", dir=path.parent)
    os.close(handle)
    command = [*compiler, *_flags(), str(SOURCES / "module.cpp"), "-o", name]
    try:
        done = subprocess.run([*command, "-fopenmp"], check=False, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode:  # some compilers come without OpenMP: one thread is better than none
            command.append("-Wno-unknown-pragmas")
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode:
            raise OSError(f"{shlex.join(compiler)} failed: {done.stderr}")
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
