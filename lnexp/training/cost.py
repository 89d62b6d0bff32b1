"""What a run would cost on this machine, measured instead of guessed (plan=true)."""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import time

import torch
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from lnexp.nn import Norm
from lnexp.seeding import seed_everything
from lnexp.tasks.base import Task
from lnexp.training.trainer import evaluate, make_optimizer, schedule

WARM_UP, UPDATES, SECONDS = 3, 30, 10.0  # updates that are not timed, that are timed at most, and time for them at most


def plan(task: Task, norm: Norm, cfg: DictConfig, device: str) -> str:
    """Size, speed, time and memory of the run that `cfg` describes, as text; a few updates and one evaluation are made."""
    per_epoch, steps, eval_every = schedule(task, cfg)
    seed_everything(cfg.seed, "init")
    model = task.build(norm).to(device)
    optimizer = make_optimizer(model, cfg)
    batches = task.batches("train", cfg.batch_size, cfg.seed)

    def update(k: int) -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        task.loss(model, batches[k % len(batches)]).backward()
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with FlopCounterMode(display=False) as counter:
        update(0)
    for k in range(WARM_UP):
        update(k)
    times: list[float] = []
    for k in itertools.takewhile(lambda k: k < UPDATES and sum(times) < SECONDS, itertools.count()):
        times.append(update(k))
    started = time.perf_counter()
    evaluate(task, norm, model, cfg.seed, 0, task.splits)
    evaluation, each = time.perf_counter() - started, statistics.median(times)

    evaluations = -(-steps // eval_every)
    parameters = sum(p.numel() for p in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    memory = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak
    lines = {
        "parameters": f"{parameters:,}",
        "training examples": f"{per_epoch * cfg.batch_size:,} an epoch, {steps * cfg.batch_size:,} in all",
        "updates": f"{steps:,} ({per_epoch:,} an epoch)",
        "operations": f"{counter.get_total_flops() / 1e9:.3g} GFLOP an update (matrix products)",
        "speed": f"{each * 1e3:.3g} ms an update on {device}, {cfg.threads} thread(s); median of {len(times)}",
        "training": _duration(steps * each),
        "evaluations": f"{evaluations:,} of {evaluation:.3g} s: {_duration(evaluations * evaluation)}",
        "time in all": _duration(steps * each + evaluations * evaluation),
        "memory": f"{memory / 2**30:.2f} GiB at the peak",
    }
    return "\n".join(f"{name:<18} {value}" for name, value in lines.items())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
