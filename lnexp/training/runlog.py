"""Everything one run writes. Its folder is the truth; Weights & Biases is a view of it.

config.yaml   the resolved configuration        ckpt.pt       the latest checkpoint (ckpt.prev.pt the one before)
                                                    best.pt       the best weights, where the task evaluates with them
env.json      one entry a start: commit, versions, processor, threads
metrics.csv   step,epoch,seconds,split,metric,value
summary.json  written last, by rename: it alone means finished
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from lnexp import files
from lnexp.errors import UserError
from lnexp.tasks.base import Curve
from lnexp.training import checkpoint
from lnexp.training.progress import Progress

HEADER = "step,epoch,seconds,split,metric,value\n"


class Sink(Protocol):
    """Something that shows a run while it goes on, such as Weights & Biases."""

    def start(self, rows: list[dict[str, str]]) -> None: ...

    def write(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any]) -> None: ...


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that has ended, None if it has not."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, as text."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class RunLog:
    """The folder of one run, held by one process at a time.

    Args:
        folder: where the run writes; made if needed.
        cfg: the run's configuration.
        environment: what env.json says of this start.
        progress: what the terminal shows.
        sink: a live view; may fail without harm to the run.
    """

    def __init__(self, folder: Path, cfg: DictConfig, environment: dict[str, Any], progress: Progress, sink: Sink) -> None:
        self.folder, self.progress, self.sink = folder, progress, sink
        folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        files.write_whole(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True).encode())
        starts = json.loads((folder / "env.json").read_text()) if (folder / "env.json").exists() else []
        files.write_whole(folder / "env.json", json.dumps([*starts, environment], indent=1).encode())
        self.metrics = (folder / "metrics.csv").open("ab")

    def _lock(self) -> None:
        """Hold the folder until this process ends, however it ends; leave if another one holds it."""
        self.holder = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self.holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.holder.seek(0)
            who = self.holder.read().strip() or "another process"
            raise UserError(f"{self.folder} is being trained by {who}") from error
        self.holder.truncate(0)
        self.holder.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self.holder.flush()

    def resume(self) -> dict[str, Any] | None:
        """The state to go on from, None for a start from nothing. Rows of metrics.csv that are newer than it are cut off."""
        size = self.metrics.tell()
        paths = [p for p in (self.folder / checkpoint.LATEST, self.folder / checkpoint.BEFORE) if p.exists()]
        for path in paths:
            state = checkpoint.load(path)
            if state is not None and state["metrics_bytes"] <= size:
                self.metrics.truncate(state["metrics_bytes"])
                break
            self.progress.say(f"{path} is damaged: going back to the checkpoint before it, or to the start")
        else:
            state = None
            self.metrics.truncate(0)
        self.metrics.seek(0, os.SEEK_END)
        if self.metrics.tell() == 0:
            self.metrics.write(HEADER.encode())
        self.metrics.flush()
        self.sink.start(read_rows(self.folder))
        return state

    def write(self, step: int, epoch: int, seconds: float, values: Mapping[str, float]) -> None:
        """Add one row per value, named "<split>/<metric>", measured after `step` updates and `seconds` of training."""
        lines = [f"{step},{epoch},{seconds:.3f},{name.replace('/', ',')},{value!r}\n" for name, value in values.items()]
        self.metrics.write("".join(lines).encode())
        self.metrics.flush()
        self.sink.write(step, {**values, "epoch": epoch, "seconds": seconds})

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the checkpoint to go on from."""
        os.fsync(self.metrics.fileno())
        checkpoint.save(self.folder, {**state, "metrics_bytes": self.metrics.tell()})

    def keep(self, weights: dict[str, Any]) -> None:
        """Keep the weights that have been best so far."""
        files.write_whole(self.folder / checkpoint.BEST, checkpoint.packed(weights))

    def kept(self) -> dict[str, Any]:
        """The weights that were best."""
        weights = checkpoint.load(self.folder / checkpoint.BEST)
        if weights is None:
            raise UserError(f"{self.folder / checkpoint.BEST} is missing or damaged: remove {self.folder} and run again")
        return weights

    def finish(self, status: str, curves: tuple[Curve, ...]) -> dict[str, Any]:
        """Write summary.json: status, length, the last value of every metric, and the best of every curve."""
        rows = read_rows(self.folder)
        last = rows[-1] if rows else {"step": "0", "seconds": "0"}
        series: dict[str, list[tuple[float, int]]] = {}
        for row in rows:
            series.setdefault(f"{row['split']}/{row['metric']}", []).append((float(row["value"]), int(row["step"])))
        best = {}
        for curve in curves:
            if values := [v for v in series.get(curve.metric, []) if v[0] == v[0]]:
                value, step = (min if curve.better == "lower" else max)(values, key=lambda v: v[0])
                best[curve.metric] = {"value": value, "step": step}
        final = {name: values[-1][0] for name, values in series.items()}
        summary = {"status": status, "steps": int(last["step"]), "seconds": float(last["seconds"]), "final": final, "best": best}
        files.write_whole(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        self.sink.finish(summary)
        return summary

    def close(self) -> None:
        """Let go of the folder."""
        self.progress.close()
        self.metrics.close()
        self.holder.close()


def environment(threads: int, device: str) -> dict[str, Any]:
    """What a start of a run should be known by: commit, versions, processor."""
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
    }
