"""One run, from its configuration to its summary."""

from __future__ import annotations

import sys
from typing import Any

from omegaconf import DictConfig

from lnexp import config
from lnexp.errors import UserError


def run(cfg: DictConfig, place: str = "", bar: bool | None = None) -> dict[str, Any] | None:
    """Make the run that `cfg` describes, unless it is made already; go on with it where it was broken off.

    Args:
        cfg: a composed configuration.
        place: its place among several, such as "3 of 30", for the terminal.
        bar: draw a progress bar; None where stderr is a terminal.

    Returns:
        The summary; None where there is none to give (plan=true, skip=tabled, a process that does not lead).

    Raises:
        UserError: a value, a file or another process stands in the way.
    """
    config.check(cfg)
    norm = config.make_norm(cfg)
    device = config.choose_device(cfg.device)
    name, folder = config.run_id(cfg), config.run_folder(cfg)

    from lnexp.training.runlog import finished

    if not cfg.plan:
        if (summary := finished(folder)) is not None:
            print(f"{name} is {summary['status']} already: {outline(summary)}", file=sys.stderr)
            return summary
        if cfg.skip == "tabled":
            from lnexp.evidence.tables import tabled

            if name in tabled(cfg.task.name, cfg.results_dir):
                print(f"{name} is in the tables already", file=sys.stderr)
                return None

    import torch

    from lnexp.training.distributed import Team
    from lnexp.training.progress import Progress
    from lnexp.training.runlog import RunLog, environment
    from lnexp.training.trainer import fit
    from lnexp.training.wandb_logger import make_sink

    torch.set_num_threads(cfg.threads)
    team = Team(device)
    if cfg.batch_size % team.size:
        raise UserError(f"batch_size={cfg.batch_size}: must be a multiple of the {team.size} processes")
    task = config.make_task(cfg, team.device)
    if cfg.plan:
        from lnexp.training.cost import plan

        print(plan(task, norm, cfg, team.device))
        return None
    with team:
        if not team.leads:
            return fit(task, norm, cfg, team, log=None)
        sink = make_sink(cfg, name, config.identity(cfg), task.curves)
        log = RunLog(folder, cfg, environment(cfg.threads, team.device), Progress(name, place, bar=bar), sink)
        try:
            summary = fit(task, norm, cfg, team, log) or {}
        finally:
            log.close()
    print(f"{name} {summary['status']}: {outline(summary)}  ({folder})", file=sys.stderr)
    return summary


def outline(summary: dict[str, Any]) -> str:
    """The best value of every curve, in a line."""
    return "  ".join(f"best {name} {best['value']:.4g} at update {best['step']}" for name, best in summary["best"].items())
