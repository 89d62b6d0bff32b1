"""Curves in Weights & Biases: a copy of the run's folder. Its failures do not affect the run; it never prompts or hangs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lnexp.provenance import commit
from lnexp.tasks.base import Curve

PATIENCE = 15  # seconds to wait for the server before going on without it


class NoLogger:
    """Logs nothing (wandb.mode=disabled)."""

    def start(self, rows: list[dict[str, str]]) -> None: ...

    def write(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], folder: Path) -> None: ...


class WandbLogger:
    """One W&B run per run, under an id that follows from the configuration, resumed under the same id.

    WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_DIR, WANDB_NAME, WANDB_TAGS and WANDB_RUN_GROUP hold where the arguments leave
    a choice.

    Args:
        mode: online | offline | auto: WANDB_MODE if it is set, else online where credentials are found, offline elsewhere.
        run: the run's id, "<task>/<name>".
        values: the run's configuration as W&B shows it.
        curves: declarations of the task: whether the lowest or the highest value of a metric is shown as its summary.
        folder: W&B writes to <folder>/wandb.
        group: name under which W&B groups runs.
        project: None: "lnexp".
        entity: W&B user or team; None: the default one.
    """

    def __init__(
        self,
        mode: str,
        run: str,
        values: dict[str, Any],
        curves: tuple[Curve, ...],
        folder: Path,
        group: str,
        project: str | None = None,
        entity: str | None = None,
    ) -> None:
        self.mode, self.run, self.values, self.curves = mode, run, values, curves
        self.folder = Path(os.environ.get("WANDB_DIR") or folder)
        self.group, self.project, self.entity = group, project, entity
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
        """Show the summary and the run's samples, and close the W&B run."""
        if self.live is not None:
            self._guard(lambda: self.live.summary.update({k: summary[k] for k in ("status", "steps", "seconds", "cpu_seconds")}))
            self._guard(lambda: self._show_samples(folder / "samples", summary["steps"]))
            self._guard(lambda: self.live.finish())
            self.live = None

    def _show_samples(self, folder: Path, step: int) -> None:
        import wandb

        kinds = {".png": "Image", ".jpg": "Image", ".html": "Html"}
        for path in sorted(folder.glob("*")):
            if path.suffix in kinds:
                self.live.log({f"samples/{path.stem}": getattr(wandb, kinds[path.suffix])(str(path))}, step=step)

    def _open(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode = os.environ.get("WANDB_MODE") or "auto" if self.mode == "auto" else self.mode
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
        _, _, name = self.run.partition("/")
        run_id = None if "WANDB_SWEEP_ID" in os.environ else self.run.replace("/", "-")  # an agent has named the run already
        if mode == "offline" and run_id is not None:
            self._remove_earlier(run_id)
        return wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "lnexp",
            entity=self.entity,
            id=run_id,
            name=os.environ.get("WANDB_NAME") or name,
            group=os.environ.get("WANDB_RUN_GROUP") or self.group,
            config=self.values,
            dir=self.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(**quiet),
        )

    def _remove_earlier(self, run_id: str) -> None:
        """Remove what earlier starts of the run have written offline, unless uploaded: this start writes all their rows again."""
        for folder in (self.folder / "wandb").glob(f"offline-run-*-{run_id}"):
            if not any(folder.glob("*.synced")):
                shutil.rmtree(folder, ignore_errors=True)

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
    if disabled(cfg):
        return NoLogger()
    group = cfg.wandb.get("group") or f"{cfg.task.name}-{cfg.scale}"
    values = identity | commit()
    return WandbLogger(cfg.wandb.mode, run, values, curves, Path(cfg.results_dir), group, cfg.wandb.project, cfg.wandb.entity)


def disabled(cfg: DictConfig) -> bool:
    """Whether the configuration or WANDB_MODE switches W&B off."""
    return "disabled" in (cfg.wandb.mode, os.environ.get("WANDB_MODE"))


def where(cfg: DictConfig) -> str | None:
    """A line on where runs lie that were logged offline and how to upload them; None where there are none."""
    folder = Path(os.environ.get("WANDB_DIR") or cfg.results_dir) / "wandb"
    if disabled(cfg) or not any(folder.glob("offline-run-*")):
        return None
    return f"W&B: logged offline in {folder}; to upload: wandb sync {shlex.quote(str(folder))}/offline-run-*"
