"""The compiled library: made once, by one process, wherever a folder can be found for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lnexp.nn.csrc.build import library

pytestmark = pytest.mark.skipif(library() is None or sys.platform != "linux", reason="no C++ compiler, or other processes' ways")

RUN = (
    "import os, sys, torch, lnexp.nn as nn;"
    "from lnexp.nn.csrc.build import library;"
    "nn.LSTM(3, 4)(torch.ones(2, 1, 3));"
    "print(library() is not None)"
)


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A compiler that optimises nothing, to be quick, and writes a line for each library that it makes."""
    path = tmp_path / "compiler"
    real = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo made >>{tmp_path}/log\nexec {real} "$@" -O0\n')
    path.chmod(0o755)
    return path


def start(compiler: object, folder: object, code: str = RUN, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "CXX": str(compiler), "LNEXP_CACHE": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_processes_that_start_together_compile_once(compiler, tmp_path):
    processes = [start(compiler, tmp_path / "cache") for _ in range(3)]
    outputs = [p.communicate(timeout=300) for p in processes]
    assert [out for out, _ in outputs] == ["True\n"] * 3
    assert "".join(err for _, err in outputs).count("compiling") == 1
    assert (tmp_path / "log").read_text() == "made\n"
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".so"]


def test_a_killed_process_blocks_nobody(compiler, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {compiler} --version\nexec sleep 60\n')
    slow.chmod(0o755)
    folder = tmp_path / "cache"
    killed = start(slow, folder)
    while not list(folder.glob("*.part")):
        time.sleep(0.05)
        assert killed.poll() is None
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    (left,) = folder.glob("*.part")
    # Its lock file has the name that depends on the compiler: the same one again, that now works.
    slow.write_text(f'#!/bin/sh\nexec {compiler} "$@"\n')
    os.utime(left, (0, 0))
    out, err = start(slow, folder).communicate(timeout=300)
    assert out == "True\n", err
    assert [p.suffix for p in folder.iterdir()] == [".so"]


@pytest.mark.parametrize("folder", ["/proc/lnexp", "/dev/null/lnexp"])
def test_a_folder_that_cannot_be_written_is_replaced(compiler, tmp_path, folder):
    outputs = [start(compiler, folder, TMPDIR=str(tmp_path)).communicate(timeout=300) for _ in range(2)]
    assert [out for out, _ in outputs] == ["True\n"] * 2
    (first, second) = (err for _, err in outputs)
    assert first.count("\n") == 1 and folder in first  # says where, and why
    assert second == ""
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_temporary_folder_of_somebody_else_is_not_used(compiler, tmp_path):
    planted = tmp_path / f"lnexp-{os.getuid()}"
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)  # anybody could put a library there
    out, _ = start(compiler, "/proc/lnexp", TMPDIR=str(tmp_path)).communicate(timeout=300)
    assert out == "True\n"
    assert not list(planted.iterdir())


def test_without_a_compiler_one_line_in_all_processes(tmp_path):
    children = (
        "import subprocess, sys;"
        f"code = {RUN!r};"
        "exec(code);"
        "sys.exit(max(subprocess.run([sys.executable, '-c', code]).returncode for _ in range(2)))"
    )
    process = start("/nowhere/c++", tmp_path, children)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and out == "False\n" * 3
    assert err.count("\n") == 1 and "without their compiled kernels" in err and "/nowhere/c++" in err


def test_no_memory_is_an_error_of_python():
    code = (
        "import resource, torch, lnexp.nn as nn;"
        "torch.set_num_threads(1);"
        "layer, x = nn.GRU(8, 1500), torch.zeros(1, 1, 8);"
        "torch.no_grad().__enter__();"
        "layer(x);"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (12 << 20), resource.RLIM_INFINITY));"
        "exec('try: layer(x)\\nexcept MemoryError as error: print(error)')"
    )
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no memory left for the forward pass of a recurrent layer: 1 steps of 1 cases\n"
