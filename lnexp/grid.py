"""Several runs in one command. Hydra's launchers make them; which ones is decided here, before the first one starts.

Hydra's own sweeper knows one product of values. A grid of several presets is a list, so each run is handed to the sweeper as one
value, its encoded overrides, and composed where it is made.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from urllib.parse import quote, unquote

from omegaconf import DictConfig

from lnexp import config, script
from lnexp.errors import UserError
from lnexp.training.interrupt import StopFile, stop_requested


class RefusedError(Exception):
    """Some runs of a grid could not be made, which has been printed."""

    printed = True


def make_all(main: Callable[[], None], overrides: list[str], explain: Callable[..., str | None]) -> None:
    """Make all runs of a command line, except finished ones and those that cannot be made.

    A mistake is printed once, with the runs that have it.

    Args:
        main: Hydra's main function.
        overrides: of the command line.
        explain: from an exception to its line, None for a fault of the code.

    Raises:
        Exception: the first error of a run, after all other runs have been made.
        KeyboardInterrupt: Ctrl-C or SIGTERM; runs that were training have saved a checkpoint.
    """
    from lnexp.training.run import stored
    from lnexp.training.wandb_logger import where

    jobs = config.expand(overrides)
    todo: list[list[str]] = []
    mistakes: dict[str, list[int]] = {}
    for number, job in enumerate(jobs, 1):
        try:
            if stored(config.read(config.compose(job))) is None:
                todo.append(job)
        except Exception as error:
            if (mistake := explain(error, job)) is None:
                raise
            mistakes.setdefault(mistake, []).append(number)
    for mistake, numbers in mistakes.items():
        print(f"error: run{'s' * (len(numbers) > 1)} {ranges(numbers)} of {len(jobs)}: {mistake}", file=sys.stderr)
    before = len(jobs) - len(todo)
    if done := before - sum(map(len, mistakes.values())):
        print(f"{done} of {len(jobs)} runs are finished already", file=sys.stderr)
    if todo:
        written = [written_as(job, f"{number} of {len(jobs)}") for number, job in enumerate(todo, before + 1)]
        of_hydra = [o for o in overrides if config.HYDRA.match(o)]
        sys.argv[1:] = ["--multirun", *of_hydra, *todo[0], f"+run={','.join(written)}"]
        with StopFile():
            main()
        if line := where(config.compose(todo[0])):
            print(line, file=sys.stderr)
    if mistakes:
        raise RefusedError


def written_as(job: list[str], place: str) -> str:
    """A run as one value of a sweep, with characters that need no quotes."""
    return quote(json.dumps([place, job]), safe="")


def one_job(cfg: DictConfig) -> None:
    """Make one run for Hydra. In a grid its error is printed at once, and the other runs are made."""
    from hydra.core.hydra_config import HydraConfig

    from lnexp.training.run import run
    from lnexp.training.runlog import HeldError

    several = "run" in cfg
    launched = several and HydraConfig.get().runtime.choices["hydra/launcher"] != "basic"
    place = ""
    if launched:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the launching process decides
    if stop_requested():
        return
    if several:
        place, job = json.loads(unquote(cfg.run))
        cfg = config.compose(job)
    try:
        run(cfg, place, bar=False if launched else None)  # several bars at once would overwrite one another
    except KeyboardInterrupt:
        if not launched:
            raise
        if not stop_requested():
            raise UserError("stopped by a signal; the same command continues") from None
    except Exception as error:
        mistake = script.explain(error)
        if mistake is None:
            error.fault = True  # type: ignore[attr-defined]
            raise
        if not several:
            print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)  # which Hydra lets pass; beside an exception it prints a line of its own
        if isinstance(error, HeldError):
            print(f"run {place}: {mistake}; skipped", file=sys.stderr)
            return
        print(f"error: run {place}: {mistake}", file=sys.stderr)
        error.printed = True  # type: ignore[attr-defined]
        raise


def ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 6] -> "1-3, 6"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in parts)
