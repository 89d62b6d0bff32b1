"""Random command lines: none ends in a traceback, and the exit code is 0, or 2 with a line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import Started
from tests.robustness.commands import command


@pytest.mark.parametrize(("first", "number"), [(0, 12), pytest.param(12, 488, marks=pytest.mark.slow)])
def test_random_command_lines(first: int, number: int, digits: Path, tmp_path: Path) -> None:
    faults = []
    for seed in range(first, first + number, 2):
        started = {}
        for words in (command(seed), command(seed + 1)):  # two at once
            short = ["scale=smoke", "max_updates=1", "data=idx", f"data.root={digits}", "wandb.mode=disabled", "samples=false"]
            place = [f"results_dir={tmp_path}/{seed}-{len(started)}", f"data_dir={tmp_path}/data"]
            started[" ".join(words)] = Started("train.py", *short, *words, *place)
        for words, process in started.items():
            code, (_, errors) = process.wait(300), process.said()
            said = any(line.startswith("error: ") for line in errors.splitlines())
            if "Traceback" in errors or not (code == 0 or (code == 2 and said)):
                faults.append(f"{words}: {code}\n{errors[-1500:]}")
    assert not faults, f"{len(faults)} of {number}\n" + "\n".join(faults)
