"""One run, from its configuration to its summary."""

from __future__ import annotations

import sys
from typing import Any

from omegaconf import DictConfig

from lnexp import config
from lnexp.errors import UserError
from lnexp.training.runlog import RunLog, check_data, environment, finished, record


def run(cfg: DictConfig, position: str = "", bar: bool | None = None) -> dict[str, Any] | None:
    """Make the run of a configuration. A finished run returns at once; a broken one continues from its latest checkpoint.

    Args:
        cfg: a composed configuration.
        position: for one of several runs, such as "3 of 30"; shown on the terminal.
        bar: whether to draw a progress bar; None: if stderr is a terminal.

    Returns:
        The summary, or None if there is none (plan=true, skip=tabled, or a process other than the first).

    Raises:
        UserError: a value, a file or another process prevents the run.
    """
    settings = config.read(cfg)
    cfg, name, folder = settings.cfg, settings.id, settings.folder
    if (summary := stored(settings)) is not None:
        print(f"{name} is {summary['status']} already: {outline(summary)}", file=sys.stderr)
        return summary
    if cfg.skip == "tabled" and not cfg.plan:
        from lnexp.evidence.tables import recorded

        if name in recorded(cfg.task.name, cfg.results_dir):
            print(f"{name} is in the tables already", file=sys.stderr)
            return None

    import torch

    from lnexp.training.distributed import ProcessGroup
    from lnexp.training.interrupt import Interrupt
    from lnexp.training.progress import Progress
    from lnexp.training.trainer import fit
    from lnexp.training.wandb_logger import make_logger, where

    torch.set_num_threads(cfg.threads)
    group = ProcessGroup(settings.device)
    if cfg.batch_size % group.size:
        raise UserError(f"batch_size={cfg.batch_size}: must be a multiple of the {group.size} processes")
    task = settings.make_task(group.device)
    if cfg.plan:
        from lnexp.training.cost import cost

        print(cost(task, settings.norm, cfg, group.device))
        return None
    with group, Interrupt() as interrupt:
        if not group.is_first:
            return fit(task, settings.norm, cfg, group, None, interrupt)
        logger = make_logger(cfg, name, settings.identity, task.curves)
        start = environment(cfg.threads, group.device, settings.fingerprint())
        progress = Progress(name, position, bar=bar)
        log = RunLog(folder, cfg, start, progress, logger)
        try:
            summary = fit(task, settings.norm, cfg, group, log, interrupt) or {}
        finally:
            log.close()
    print(f"{name} {summary['status']}: {outline(summary)}  ({folder})", file=sys.stderr)
    if not position and (line := where(cfg)):
        print(line, file=sys.stderr)
    return summary


def stored(settings: config.Settings) -> dict[str, Any] | None:
    """The summary of a run that is finished and that the configuration does not ask to make again, else None.

    Raises:
        UserError: the run was made from other data.
    """
    if settings.cfg.plan or settings.cfg.fresh or (summary := finished(settings.folder)) is None:
        return None
    check_data(settings.folder, settings.cfg, record(settings.fingerprint()))
    return summary


def outline(summary: dict[str, Any]) -> str:
    """The best value of every curve, in one line."""
    return "  ".join(f"best {name} {best['value']:.4g} at update {best['step']}" for name, best in summary["best"].items())
