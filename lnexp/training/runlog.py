"""The folder of one run. Its files are the truth; Weights & Biases shows a copy.

config.yaml   the resolved configuration          ckpt.pt       latest checkpoint (ckpt.prev.pt: the one before)
env.json      one entry per start: commit,        best.pt       best weights, if the task evaluates with them at the end
              versions, machine, data             samples/      pictures and texts that the task has made at the end
metrics.csv   step,epoch,seconds,cpu_seconds,split,metric,value
summary.json  written last, by rename: present if and only if the run is finished
"""

from __future__ import annotations

import csv
import fcntl
import itertools
import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from lnexp.data.sources import Fingerprint
from lnexp.errors import UserError
from lnexp.files import write_whole
from lnexp.tasks.base import Curve
from lnexp.training import checkpoint
from lnexp.training.progress import Progress
from lnexp.training.stopwatch import Times

HEADER = "step,epoch,seconds,cpu_seconds,split,metric,value\n"
SHARE = 0.05  # of the time of a run that checkpoints between evaluations may take


class HeldError(UserError):
    """Another process is making this run."""


class Logger(Protocol):
    """A live view of a run, such as Weights & Biases."""

    def start(self, rows: list[dict[str, str]]) -> None: ...

    def write(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], folder: Path) -> None: ...


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run, else None."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def starts(folder: Path) -> list[dict[str, Any]]:
    """The entries of env.json, one per start of the run."""
    path = folder / "env.json"
    return json.loads(path.read_text()) if path.exists() else []


def check_data(folder: Path, cfg: DictConfig, data: dict[str, Any] | None) -> None:
    """Raise a UserError if an earlier start of the run has read other data. Starts without a record of it are accepted.

    Args:
        data: the entry "data" of env.json, see `record`.
    """
    earlier = next((start["data"] for start in reversed(starts(folder)) if "data" in start), None)
    if earlier is None or data is None or earlier["digest"] == data["digest"]:
        return
    before, now = earlier["files"], data["files"]
    differ = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)] or ["the list of files"]
    more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    ways = ["data.set=NAME for another data set"] * ("set" in cfg.data) + ["another results_dir="]
    raise UserError(
        f"{folder} was made from other data ({differ[0]}{more} differs): give {', '.join(ways)}, or fresh=true to replace the run"
    )


def record(data: Fingerprint) -> dict[str, Any]:
    """The entry "data" of env.json."""
    return {"digest": data.digest, "files": data.files}


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, as text."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def move_aside(folder: Path) -> Path:
    """Move <results>/runs/<task>/<run> to <results>/replaced/<task>/<run>-<k>, with the first k that is free."""
    aside = folder.parents[2] / "replaced" / folder.parent.name
    aside.mkdir(parents=True, exist_ok=True)
    target = next(t for k in itertools.count(1) if not (t := aside / f"{folder.name}-{k}").exists())
    os.rename(folder, target)
    return target


class RunLog:
    """The folder of one run, held by one process at a time.

    Args:
        folder: where the run writes; created if needed.
        cfg: the run's configuration.
        environment: this start's entry in env.json.
        progress: the display on the terminal.
        logger: a live view; its failures do not affect the run.

    Raises:
        HeldError: another process holds the folder.
        UserError: an earlier start has read other data.
    """

    def __init__(self, folder: Path, cfg: DictConfig, environment: dict[str, Any], progress: Progress, logger: Logger) -> None:
        self.folder, self.progress, self.logger = folder, progress, logger
        self._lock()
        try:
            self._open(cfg, environment)
        except BaseException:
            self.lock.close()
            raise
        self.metrics = (folder / "metrics.csv").open("ab")
        self.save_every, self.saved, self.cost = 60 * (cfg.checkpoint_minutes or float("inf")), time.monotonic(), 0.0

    def _open(self, cfg: DictConfig, environment: dict[str, Any]) -> None:
        """Make sure that this run may go on in the folder, and record its start."""
        if cfg.fresh and (self.folder / "config.yaml").exists():
            self.progress.say(f"moved the earlier run to {move_aside(self.folder)}")
            self.lock.close()
            self._lock()
        if finished(self.folder) is not None:
            raise HeldError(f"{self.folder} has just been finished by another process")
        check_data(self.folder, cfg, environment.get("data"))
        write_whole(self.folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True).encode())
        write_whole(self.folder / "env.json", json.dumps([*starts(self.folder), environment], indent=1).encode())

    def _lock(self) -> None:
        """Lock the folder until this process ends, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.lock.seek(0)
            holder = self.lock.read().strip() or "another process"
            raise HeldError(f"{self.folder} is being trained by {holder}") from error
        self.lock.truncate(0)
        self.lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self.lock.flush()

    def resume(self) -> dict[str, Any] | None:
        """The latest state that can be read, None for a new start. Newer rows of metrics.csv are cut off."""
        size = self.metrics.tell()
        for path in (self.folder / checkpoint.LATEST, self.folder / checkpoint.BEFORE):
            if not path.exists():
                continue
            state = checkpoint.load(path)
            if state is not None and "times" not in state:
                commits = ", ".join(sorted({str(start["commit"])[:8] for start in starts(self.folder)}))
                raise UserError(f"{path} is of an earlier version: finish the run with its code ({commits}), or move the folder")
            if state is not None and state["metrics_bytes"] <= size:
                self.metrics.truncate(state["metrics_bytes"])
                break
            self.progress.say(f"{path} is damaged: using the checkpoint before it, or starting anew")
        else:
            state = None
            self.metrics.truncate(0)
        self.metrics.seek(0, os.SEEK_END)
        if self.metrics.tell() == 0:
            self.metrics.write(HEADER.encode())
        self.metrics.flush()
        self.logger.start(read_rows(self.folder))
        return state

    def write(self, step: int, epoch: int, times: Times, values: Mapping[str, float]) -> None:
        """Append one row for each value "<split>/<metric>", measured after `step` updates."""
        before = f"{step},{epoch},{times.wall:.3f},{times.processor:.3f}"
        lines = [f"{before},{name.replace('/', ',')},{value!r}\n" for name, value in values.items()]
        self.metrics.write("".join(lines).encode())
        self.metrics.flush()
        self.logger.write(step, {**values, "epoch": epoch, "seconds": times.wall, "cpu_seconds": times.processor})

    def save_is_due(self) -> bool:
        """Whether `checkpoint_minutes` have passed since the last checkpoint, or longer where checkpoints are slow to write."""
        return time.monotonic() - self.saved > max(self.save_every, self.cost / SHARE)

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the latest checkpoint."""
        began = time.monotonic()
        os.fsync(self.metrics.fileno())
        checkpoint.save(self.folder, {**state, "metrics_bytes": self.metrics.tell()})
        self.saved = time.monotonic()
        self.cost = self.saved - began

    def save_best(self, weights: dict[str, Any]) -> None:
        """Save the weights that are best so far."""
        write_whole(self.folder / checkpoint.BEST, checkpoint.packed(weights))

    def best_weights(self) -> dict[str, Any]:
        """The weights that were saved last as the best."""
        weights = checkpoint.load(self.folder / checkpoint.BEST)
        if weights is None:
            raise UserError(f"{self.folder / checkpoint.BEST} is missing or damaged: remove {self.folder} and run again")
        return weights

    def finish(self, status: str, curves: tuple[Curve, ...]) -> dict[str, Any]:
        """Write summary.json: status, length, the last value of every metric, and the best value of every curve."""
        rows = read_rows(self.folder)
        last = rows[-1] if rows else {"step": "0", "seconds": "0", "cpu_seconds": "0"}
        series: dict[str, list[tuple[float, int]]] = {}
        for row in rows:
            series.setdefault(f"{row['split']}/{row['metric']}", []).append((float(row["value"]), int(row["step"])))
        best = {}
        for curve in curves:
            if values := [v for v in series.get(curve.metric, []) if v[0] == v[0]]:
                value, step = (min if curve.better == "lower" else max)(values, key=lambda v: v[0])
                best[curve.metric] = {"value": value, "step": step}
        summary = {"status": status, "steps": int(last["step"])}
        summary |= {"seconds": float(last["seconds"]), "cpu_seconds": float(last["cpu_seconds"])}
        summary |= {"final": {name: values[-1][0] for name, values in series.items()}, "best": best}
        write_whole(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        self.logger.finish(summary, self.folder)
        return summary

    def close(self) -> None:
        """Release the folder."""
        self.progress.close()
        self.metrics.close()
        self.lock.close()


def environment(threads: int, device: str, data: Fingerprint) -> dict[str, Any]:
    """An entry of env.json: commit, time, machine, versions, data."""
    import torch

    from lnexp.provenance import commit, processor

    accelerator = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        **commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": accelerator or processor(),
        "device": device,
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "data": record(data),
    }
