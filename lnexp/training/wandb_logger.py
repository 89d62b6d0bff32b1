"""Curves in Weights & Biases: a copy of the run's folder. Its failures do not affect the run; it never prompts or hangs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lnexp.tasks.base import Curve

PATIENCE = 15  # seconds to wait for the server before going on without it


class NoLogger:
    """Logs nothing (wandb.mode=disabled)."""

    def start(self, rows: list[dict[str, str]]) -> None: ...

    def write(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], folder: Path) -> None: ...


class WandbLogger:
    """One W&B run per run, under an id that follows from the configuration, resumed under the same id.

    Args:
        mode: "auto" is online where credentials are found, offline elsewhere; WANDB_MODE decides before that.
        run: the run's id, "<task>/<name>".
        identity: what W&B shows as the run's configuration.
        curves: which metrics are worth drawing, and which way is good.
        folder: where W&B keeps its files.
    """

    def __init__(
        self,
        mode: str,
        run: str,
        identity: dict[str, Any],
        curves: tuple[Curve, ...],
        folder: Path,
        project: str,
        entity: str | None,
    ) -> None:
        self.mode, self.run, self.identity, self.curves = mode, run, identity, curves
        self.folder, self.project, self.entity = folder, project, entity
        self.live: Any = None

    def start(self, rows: list[dict[str, str]]) -> None:
        """Open the W&B run and show it all rows that the run has already written."""
        self._guard(self._open)
        if self.live is None:
            return
        by_step: dict[int, dict[str, float]] = {}
        for row in rows:
            values = by_step.setdefault(int(row["step"]), {})
            values[f"{row['split']}/{row['metric']}"] = float(row["value"])
            values |= {"epoch": int(row["epoch"]), "seconds": float(row["seconds"]), "cpu_seconds": float(row["cpu_seconds"])}
        for step, values in by_step.items():
            if step >= self.live.step:  # a resumed online run already has the earlier ones
                self.write(step, values)

    def write(self, step: int, values: dict[str, float]) -> None:
        if self.live is not None:
            self._guard(lambda: self.live.log({**values, "update": step}, step=step))

    def finish(self, summary: dict[str, Any], folder: Path) -> None:
        if self.live is not None:
            self._guard(lambda: self.live.summary.update({k: summary[k] for k in ("status", "steps", "seconds", "cpu_seconds")}))
            self._guard(lambda: self.live.finish())
            self.live = None

    def _open(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode = os.environ.get("WANDB_MODE") or self.mode if self.mode == "auto" else self.mode
        if mode == "auto":
            mode = "online" if wandb.login(prompt=False, verify=False, timeout=PATIENCE) else "offline"
        try:
            self.live = self._init(mode)
        except Exception as error:
            if mode != "online":
                raise
            self._say(f"Weights & Biases is out of reach ({_first_line(error)}): logging offline")
            os.environ["WANDB_MODE"] = "offline"  # the runs that follow in this process need not wait again
            self.live = self._init_offline()
        self.live.define_metric("update", hidden=True)
        self.live.define_metric("*", step_metric="update")
        for curve in self.curves:
            self.live.define_metric(curve.metric, step_metric="update", summary="min" if curve.better == "lower" else "max")

    def _init_offline(self, tries: int = 3) -> Any:
        """Begin anew after a failure, with a new service: the old one may hold on to the run for a while.

        A service that another process has started is left to that process: it would outlive the teardown, the run still in it.
        """
        import wandb

        for left in reversed(range(tries)):
            wandb.teardown()
            os.environ.pop("WANDB_SERVICE", None)
            try:
                return self._init("offline")
            except Exception:
                if not left:
                    raise
                time.sleep(5)

    def _init(self, mode: str) -> Any:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        quiet: dict[str, Any] = {
            "console": "off",
            "disable_git": True,
            "x_disable_stats": True,
            "init_timeout": PATIENCE if mode == "online" else 4 * PATIENCE,
            "finish_timeout": 4 * PATIENCE,
        }
        task, _, name = self.run.partition("/")
        swept = "WANDB_SWEEP_ID" in os.environ  # an agent has named the run already
        return wandb.init(
            project=self.project,
            entity=self.entity,
            id=None if swept else self.run.replace("/", "-"),
            name=name,
            group=task,
            config=self.identity,
            dir=self.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(**quiet),
        )

    def _guard(self, action: Any) -> None:
        """Do something with W&B; if it fails, say so once and go on without it."""
        try:
            action()
        except Exception as error:
            self._say(
                f"Weights & Biases failed ({_first_line(error)}): going on without it; scripts/wandb_push.py can replay the run"
            )
            self.live = None

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def make_logger(cfg: DictConfig, run: str, identity: dict[str, Any], curves: tuple[Curve, ...]) -> NoLogger | WandbLogger:
    """The logger of a configuration."""
    if cfg.wandb.mode == "disabled" or os.environ.get("WANDB_MODE") == "disabled":
        return NoLogger()
    where = Path(cfg.results_dir)
    return WandbLogger(cfg.wandb.mode, run, identity, curves, where, cfg.wandb.project, cfg.wandb.entity)
