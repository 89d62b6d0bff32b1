"""Log finished runs to Weights & Biases, each under its own id: python scripts/wandb_push.py results/runs/mnist/ln-b128-s0-*"""

import argparse
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lnexp.identity import identity, run_id
from lnexp.tasks import TASKS
from lnexp.training.runlog import finished, read_rows, starts
from lnexp.training.wandb_logger import WandbLogger

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--mode", choices=("auto", "online", "offline"), default="auto", help="auto: as wandb.mode of train.py")
    parser.add_argument("--project", default=None, help="default: $WANDB_PROJECT, else lnexp")
    parser.add_argument("--entity", default=None, help="W&B user or team")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        summary = finished(folder)
        if summary is None:
            print(f"{folder}: not a finished run, skipped", file=sys.stderr)
            continue
        cfg = OmegaConf.load(folder / "config.yaml")
        assert isinstance(cfg, DictConfig)
        entry = starts(folder)[-1]
        values = {**identity(cfg), "commit": entry["commit"], "dirty": entry["dirty"], "env": entry}
        where = folder.resolve().parents[2]
        group = cfg.wandb.get("group") or f"{cfg.task.name}-{cfg.scale}"  # runs of early versions have none
        curves = TASKS[cfg.task.name].curves
        logger = WandbLogger(arguments.mode, run_id(cfg), values, curves, where, group, arguments.project, arguments.entity)
        logger.start(read_rows(folder))
        logger.finish(summary, folder)
        print(f"{run_id(cfg)}: logged")
