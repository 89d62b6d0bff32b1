"""Random command lines: none ends in a traceback, and the exit code is 0, or 2 with a line that says what is wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import train
from tests.robustness.commands import command


@pytest.mark.parametrize(("first", "number"), [(0, 12), pytest.param(12, 488, marks=pytest.mark.slow)])
def test_random_command_lines(first: int, number: int, digits: Path, tmp_path: Path) -> None:
    def fault(seed: int) -> str:
        words = command(seed)
        short = ["scale=smoke", "max_updates=1", "data=idx", f"data.root={digits}", "wandb.mode=disabled", "samples=false"]
        done = train(*short, *words, f"results_dir={tmp_path}/{seed}", f"data_dir={tmp_path}/data")
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        ok = done.returncode == 0 or (done.returncode == 2 and said)
        return "" if ok and "Traceback" not in done.stderr else f"{words}: {done.returncode}\n{done.stderr[-1500:]}"

    with ThreadPoolExecutor(2) as pool:
        faults = [f for f in pool.map(fault, range(first, first + number)) if f]
    assert not faults, f"{len(faults)} of {number}\n" + "\n".join(faults)
