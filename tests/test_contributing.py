"""The examples of CONTRIBUTING.md, each added to a copy of the repository as it is written there, and run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from lnexp import paths
from tests.conftest import environ

BLOCK = re.compile(r'^```\w+ file=(\S+)(?: (before|after)="([^\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
MOST_LINES = {"task": 80, "norm": 30, "data set": 30, "figure": 30, "claim": 30}
MOST_FILES = {"task": 6, "norm": 3, "data set": 3, "figure": 2, "claim": 1}


class Edit(NamedTuple):
    """A block of an example: a new file, or lines before or after a line of an existing one."""

    path: str
    where: str
    line: str
    text: str


def example(what: str) -> list[Edit]:
    """The blocks of the section "Add a <what>"."""
    section = re.search(rf"^## Add a {what}\n(.*?)(?=^## |\Z)", (paths.ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    assert section, f"CONTRIBUTING.md has no section 'Add a {what}'"
    return [Edit(path, where, line.replace('\\"', '"'), text) for path, where, line, text in BLOCK.findall(section[1])]


class Copy:
    """A copy of the repository with an example added."""

    def __init__(self, root: Path, what: str) -> None:
        self.root, edits = root, example(what)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=paths.ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (paths.ROOT / name).is_file() and not name.startswith(("results/figures", "notebooks")):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(paths.ROOT / name, root / name)
        for edit in edits:
            path = root / edit.path
            if not edit.where:
                assert not path.exists(), f"CONTRIBUTING.md: {edit.path} exists already"
                path.write_text(edit.text)
                continue
            lines = path.read_text().split("\n")
            assert edit.line in lines, f"CONTRIBUTING.md: {edit.path} has no line {edit.line!r} any more: name another one"
            at = lines.index(edit.line) + (edit.where == "after")
            path.write_text("\n".join([*lines[:at], *edit.text.rstrip("\n").split("\n"), *lines[at:]]))
        files = {edit.path for edit in edits}
        size = sum(len(edit.text.splitlines()) for edit in edits if edit.path.endswith(".py"))
        print(f"{what}: {len(files)} files, {size} lines of Python")
        assert len(files) <= MOST_FILES[what], sorted(files)
        assert size <= MOST_LINES[what]

    def run(self, *command: object) -> subprocess.CompletedProcess:
        """A Python command in the copy."""
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=self.root,
            env=environ(PYTHONPATH=str(self.root)),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def lint(self) -> None:
        self.run("-m", "ruff", "check", "-q", ".")


def smoke(copy: Copy) -> list[str]:
    return ["scale=smoke", f"results_dir={copy.root}/made", f"data_dir={copy.root}/data", "device=cpu"]


def test_a_norm(tmp_path: Path, digits: Path) -> None:
    copy = Copy(tmp_path, "norm")
    copy.lint()
    copy.run("train.py", "task=mnist", "norm=centring", "data=idx", f"data.root={digits}", *smoke(copy))
    (run,) = (tmp_path / "made" / "runs" / "mnist").iterdir()
    assert run.name.startswith("centring-b128-s0-")
    code = "import lnexp.nn as n\ntry: n.LSTM(3, 4, norm='centring')\nexcept ValueError as e: print(e)"
    assert "norm=centring: class Centring does not set cells itself" in copy.run("-c", code).stdout
    drawn = copy.run("-c", "from lnexp.evidence.catalog import build; print(build()['norms']['centring'])").stdout
    assert drawn == "centring\n"


def test_a_task(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "task")
    copy.lint()
    copy.run("train.py", "task=majority", "norm=ln", *smoke(copy))
    copy.run("-m", "pytest", "-q", "-x", "tests/tasks/test_tasks.py", "-k", "majority", "-p", "no:cacheprovider")
    wrong = subprocess.run(
        [sys.executable, "train.py", "task=majority", "task.steps=0", *smoke(copy)],
        cwd=tmp_path,
        env=environ(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert (wrong.returncode, "task.steps=0: must be a whole number, 1 or more" in wrong.stderr) == (2, True), wrong.stderr


def test_a_data_set(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "data set")
    copy.lint()
    copy.run("train.py", "task=mnist", "data=bars", "norm=ln", *smoke(copy))
    (run,) = (tmp_path / "made" / "runs" / "mnist").iterdir()
    rows = pd.read_csv(run / "metrics.csv")
    assert rows.loc[(rows["split"] == "test") & (rows["metric"] == "error"), "value"].iloc[-1] < 0.5


def test_a_figure(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "figure")
    copy.lint()
    copy.run("scripts/figures/mnist_seconds.py")
    assert (tmp_path / "results" / "figures" / "mnist_seconds.png").stat().st_size > 10_000


def test_a_claim(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "claim")
    copy.lint()
    copy.run("scripts/check_claims.py")
    claims = pd.read_csv(tmp_path / "results" / "claims.csv", dtype=str).set_index("id")
    assert claims.loc["6.6-example", "verdict"] in ("supported", "contradicted", "equivalent", "inconclusive")
    assert "6.6-example" in (tmp_path / "results" / "definitions.csv").read_text()


@pytest.mark.parametrize("what", list(MOST_FILES))
def test_each_example_is_a_section(what: str) -> None:
    assert example(what)
