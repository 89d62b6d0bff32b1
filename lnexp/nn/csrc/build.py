"""Compile the kernels with the machine's compiler, once, and load them.

The library is kept in ~/.cache/lnexp (or $LNEXP_CACHE) under a name made of everything that decides what it contains,
since a home folder may be shared by machines whose processors differ. Without a compiler there is one line of warning
and no library.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent
_lock = threading.Lock()


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had. The first call ever takes seconds, later ones nothing."""
    with _lock:
        return _load()


@cache
def _load() -> ctypes.CDLL | None:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    try:
        if compiler is None:
            raise OSError("no C++ compiler found")
        path = _cache_folder() / f"kernels-{_key(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())[:200]
        print(f"lnexp: layers and order violations run without their compiled kernels, more slowly ({reason})", file=sys.stderr)
        return None


def _cache_folder() -> Path:
    folder = Path(os.environ.get("LNEXP_CACHE") or Path.home() / ".cache" / "lnexp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a read-only home: compile for this process alone
        return Path(tempfile.mkdtemp(prefix="lnexp-"))


def _flags() -> list[str]:
    tune = "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"
    return ["-std=c++17", "-O3", tune, "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]


def _key(compiler: str) -> str:
    """A digest of the sources, flags, compiler, processor's features, and torch, whose OpenMP runtime is used."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    digest = hashlib.sha256("\n".join([*_flags(), version, _processor(), torch.__version__]).encode())
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


def _compile(compiler: str, path: Path) -> None:
    """Compile into a temporary file, then rename: a process that does the same at this time never sees half of it."""
    print(
        f"lnexp: compiling the kernels for this machine (once, some ten seconds) into {path}",
        file=sys.stderr,
        flush=True,
    )
    handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    command = [compiler, *_flags(), str(SOURCES / "module.cpp"), "-o", name]
    try:
        done = subprocess.run([*command, "-fopenmp"], check=False, capture_output=True, text=True, timeout=600)
        if done.returncode:  # some compilers come without OpenMP: one thread is better than none
            command.append("-Wno-unknown-pragmas")
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise OSError(f"{compiler} failed: {done.stderr}")
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
