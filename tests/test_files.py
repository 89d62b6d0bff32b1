"""Whole files and folders that are prepared once, with several processes and with interruptions."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lnexp.files import STALE, locked, prepared, write_whole


def in_processes(function, *arguments: object, n: int = 4) -> None:
    """Call a function in several processes at once."""
    processes = [multiprocessing.get_context("fork").Process(target=function, args=arguments) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def make(folder: Path) -> None:
    """Takes a moment, and notes that it was called."""
    with (folder.parent / "calls").open("a") as calls:
        calls.write("called\n")
    (folder / "a").write_text("half")
    time.sleep(0.2)
    (folder / "b").write_text("whole")


def prepare(folder: Path) -> None:
    assert (prepared(folder, make, ["a", "b"]) / "b").read_text() == "whole"


def test_one_process_prepares_and_the_others_wait(tmp_path: Path) -> None:
    in_processes(prepare, tmp_path / "set")
    assert (tmp_path / "calls").read_text() == "called\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calls", "set"]


def test_a_complete_folder_is_only_read(tmp_path: Path) -> None:
    prepare(tmp_path / "set")
    before = {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]}
    prepare(tmp_path / "set")
    assert {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]} == before


def test_an_incomplete_folder_is_made_anew(tmp_path: Path) -> None:
    prepare(tmp_path / "set")
    (tmp_path / "set" / "b").unlink()
    prepare(tmp_path / "set")
    assert (tmp_path / "calls").read_text() == "called\n" * 2


@pytest.mark.parametrize("resume", [False, True])
def test_after_an_interruption(resume: bool, tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "part").write_text("done")
        raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "set", interrupted, ["a"], resume)
    assert not (tmp_path / "set").exists()
    prepared(tmp_path / "set", lambda folder: found.extend(folder.iterdir()) or (folder / "a").touch(), ["a"], resume)
    assert [path.name for path in found] == ["part"] * resume


def test_what_killed_processes_leave_is_harmless_and_removed_later(tmp_path: Path) -> None:
    old, new = tmp_path / ".set.1-abc.tmp", tmp_path / ".set.2-def.tmp"
    for folder in (old, new):
        folder.mkdir()
        (folder / "a").write_text("half")
    (tmp_path / ".set.lock").touch()
    os.utime(old, (time.time() - 2 * STALE,) * 2)
    prepare(tmp_path / "set")
    assert not old.exists() and new.exists()


def hold(path: Path, count: Path) -> None:
    for _ in range(50):
        with locked(path):
            count.write_text(str(int(count.read_text()) + 1))


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    in_processes(hold, tmp_path / "thing", count)
    assert count.read_text() == "200"
    assert [p.name for p in tmp_path.iterdir()] == ["count"]


def write_and_read(path: Path) -> None:
    for k in range(30):
        write_whole(path, bytes([k]) * 100_000)
        content = path.read_bytes()
        assert len(content) == 100_000 and len(set(content)) == 1


def test_files_are_whole_at_every_moment(tmp_path: Path) -> None:
    in_processes(write_and_read, tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "file", "no bytes")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"
