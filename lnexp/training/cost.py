"""The cost of a run on this machine, measured on a few updates (plan=true)."""

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
from lnexp.tasks.base import Task, build_model
from lnexp.training.distributed import ProcessGroup
from lnexp.training.optim import make_optimizer
from lnexp.training.trainer import evaluate, schedule

WARM_UP, UPDATES, SECONDS = 3, 30, 10.0  # untimed updates; largest number of timed updates; largest time for them


def cost(task: Task, norm: Norm, cfg: DictConfig, device: str) -> str:
    """Size, speed, time and memory of a run, as text; makes a few updates and one evaluation."""
    per_epoch, steps, eval_every = schedule(task, cfg)
    seed_everything(cfg.seed, "init")
    model = build_model(task, norm).to(device)
    optimizer = make_optimizer(model, cfg.optimizer)
    loss_and_parts = ProcessGroup(device).wrap(model, task.loss)
    batches = task.batches("train", cfg.batch_size, cfg.seed)

    def update(k: int) -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        loss_and_parts(batches[k % len(batches)])[0].backward()
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
    evaluate(task, norm, model, cfg.seed, 0, "during")
    evaluation, each = time.perf_counter() - started, statistics.median(times)

    evaluations = -(-steps // eval_every) + (cfg.early_evaluations or 0)
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
