"""The package as `pip install .` leaves it: torch is its only dependency, and the kernels compile where it lies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import distribution

import pytest

from lnexp import paths
from lnexp.nn.csrc.build import library


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    shutil.copytree(paths.ROOT / "lnexp", source / "lnexp", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def listed(requirement: str) -> str:
    """A requirement without comment, marker and spaces, its bounds in one order."""
    name, bounds = re.fullmatch(r"([\w-]+)([^;#]*)(?:[;#].*)?", requirement.strip()).groups()
    return name + ",".join(sorted(bounds.strip().split(",")))


def test_torch_is_the_only_dependency(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    required = metadata.get_all("Requires-Dist")
    assert [r for r in required if "extra" not in r] == ["torch>=2.13"]
    assert metadata.get_all("Provides-Extra") == ["experiments"]
    lines = (paths.ROOT / "requirements.txt").read_text().splitlines()
    expected = [listed(line) for line in lines if line.strip() and not line.startswith("#")]
    assert sorted(listed(r) for r in required if "experiments" in r) == sorted(expected)
    assert "torch==2.13.0" in expected  # the exact one that the committed numbers come from satisfies the open one


def test_every_source_file_is_in_the_wheel(wheel):
    there = {str(p.relative_to(paths.ROOT)) for suffix in ("py", "h", "cpp") for p in (paths.ROOT / "lnexp").rglob(f"*.{suffix}")}
    assert there - set(wheel.namelist()) == set()


USE = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from lnexp.nn import LSTM, LSTMCell
from lnexp.nn.csrc.build import SOURCES, library
layer, cell = LSTM(3, 4), LSTMCell(3, 4)
cell.load_state_dict({name.replace("_l0", ""): value for name, value in layer.state_dict().items()})
x = torch.randn(1, 2, 3)
out = layer(x)[0]
out.sum().backward()
assert torch.allclose(cell(x[0])[0], out[0], atol=1e-6)
assert str(SOURCES).startswith(sys.argv[1]), SOURCES
print(library() is not None)
"""


@pytest.mark.skipif(library() is None or sys.platform != "linux", reason="no C++ compiler, or no symbolic links")
def test_the_layers_run_beside_torch_alone(wheel, tmp_path):
    installed, torch_alone = tmp_path / "installed", tmp_path / "torch"
    wheel.extractall(installed)
    torch_alone.mkdir()
    for name in sorted(top_level("torch")):
        (torch_alone / name).symlink_to(distribution("torch").locate_file(name))
    real = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec {real} "$@" -O0\n')
    compiler.chmod(0o755)
    env = {**os.environ, "CXX": str(compiler), "LNEXP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""}
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", USE, str(installed), str(torch_alone)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "compiling" in done.stderr


def top_level(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Files and folders of site-packages that a distribution and all that it requires have."""
    found = {path.parts[0] for path in distribution(name).files or () if path.parts[0] not in ("..", "__pycache__")}
    for requirement in distribution(name).requires or ():
        needed = re.match(r"[\w.-]+", requirement).group()
        if "extra" not in requirement and needed not in seen:
            try:
                found |= top_level(needed, seen | {name, needed})
            except ModuleNotFoundError:  # for another platform
                continue
    return found
