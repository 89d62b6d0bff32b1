"""The training loop: one function for every task."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from lnexp.nn import Norm
from lnexp.seeding import generator_states, restore_generators, seed_everything, set_aside
from lnexp.tasks.base import Task, words
from lnexp.training.distributed import Team
from lnexp.training.optim import AdamSlip
from lnexp.training.runlog import RunLog


def fit(task: Task, norm: Norm, cfg: DictConfig, team: Team, log: RunLog | None) -> dict[str, Any] | None:
    """Train one model from its latest checkpoint, or from nothing, to its end.

    Every random number follows from (seed, purpose), and a checkpoint holds all that an update depends on: a run that was
    killed and started again writes the same metrics (but for seconds) and the same weights as one that was not.

    Args:
        task: data, model, loss and measures.
        norm: which normalisation the model gets.
        cfg: the configuration of configs/config.yaml.
        team: the processes that train together.
        log: where the run writes; None in all processes but the leading one.

    Returns:
        The run's summary in the leading process. A loss that is not finite ends the run with status "diverged".
    """
    seed_everything(cfg.seed, "init")
    model = task.build(norm).to(team.device)
    optimizer = make_optimizer(model, cfg)
    seed_everything(cfg.seed, "noise", team.rank)

    loss_of = team.loss(model, task.loss)
    losses = torch.zeros((), device=team.device)  # summed since the last row of train/loss; read only when that is written
    step, summed, seconds, best, status = 0, 0, 0.0, None, "finished"
    if (state := team.gather(log.resume() if log else None)[0]) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_generators(state["generators"][team.rank])
        losses += state["losses"][team.rank]
        step, summed, seconds, best = state["step"], state["summed"], state["seconds"], state["best"]

    per_epoch, steps, eval_every = schedule(task, cfg)
    log_every, save_every = cfg.log_every, cfg.checkpoint_every or steps
    clipped, shown = clipping(model, cfg), [curve.metric for curve in task.curves]
    if log:
        log.progress.start(step, steps, ("loss", task.curves[0].metric))
        if step == 0 and task.starts:
            log.write(0, 0, 0.0, evaluate(task, norm, model, cfg.seed, 0, task.starts))

    while step < steps and status == "finished":
        epoch, first = divmod(step, per_epoch)
        batches = task.batches("train", cfg.batch_size, cfg.seed, epoch, (team.rank, team.size))
        model.train()
        started = time.perf_counter()
        for k in range(first, min(per_epoch, first + steps - step)):
            optimizer.zero_grad()
            batch = batches[k]
            loss = loss_of(batch)
            loss.backward()
            for group in clipped:
                nn.utils.clip_grad_norm_(*group)
            optimizer.step()
            losses += loss.detach()
            step, summed = step + 1, summed + 1
            if log:
                log.progress.step(words(batch))

            evaluates = step % eval_every == 0 or step == steps
            logs = evaluates or step % log_every == 0
            saves = evaluates or step % save_every == 0
            if not (logs or saves):
                continue
            team.wait_for_device()
            seconds += time.perf_counter() - started
            if logs:
                mean_loss = team.mean(losses) / summed
                losses.zero_()
                summed = 0
                if log:
                    log.write(step, epoch, seconds, {"train/loss": mean_loss})
                    log.progress.show(step, {"loss": mean_loss})
                if not math.isfinite(mean_loss):
                    status = "diverged"
                    break
            if evaluates and log:
                values = evaluate(task, norm, model, cfg.seed, step, task.splits)
                log.write(step, epoch, seconds, values)
                log.progress.show(step, {name: values[name] for name in shown if name in values}, now=True)
                if task.finals and task.curves[0].improves(values[task.curves[0].metric], best):
                    best = values[task.curves[0].metric]
                    log.keep(model.state_dict())
            if saves:
                of_each = {"generators": team.gather(generator_states()), "losses": team.gather(losses.cpu())}
                if log:
                    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **of_each}
                    log.save({**parts, "step": step, "summed": summed, "seconds": seconds, "best": best})
            started = time.perf_counter()

    if log and best is not None:
        model.load_state_dict(log.kept())
        log.write(step, (step - 1) // per_epoch, seconds, evaluate(task, norm, model, cfg.seed, step, task.finals))
    team.wait()
    return log.finish(status, task.curves) if log else None


def schedule(task: Task, cfg: DictConfig) -> tuple[int, int, int]:
    """Updates in an epoch, in the whole run, and between two evaluations."""
    per_epoch = len(task.batches("train", cfg.batch_size, cfg.seed))
    steps = min(n for n in (cfg.max_updates, cfg.epochs and cfg.epochs * per_epoch) if n is not None)
    return per_epoch, steps, cfg.eval_every or (cfg.evaluations and -(-steps // cfg.evaluations)) or per_epoch


def clipping(model: nn.Module, cfg: DictConfig) -> list[tuple[list[nn.Parameter], float]]:
    """The parameters whose gradients are scaled down together, and to which norm: each tensor for itself, then all of them."""
    parameters = list(model.parameters())
    each = [([p], cfg.clip_norm_each) for p in parameters] if cfg.clip_norm_each else []
    return each + ([(parameters, cfg.clip_norm)] if cfg.clip_norm else [])


def make_optimizer(model: nn.Module, cfg: DictConfig) -> torch.optim.Optimizer:
    """The optimiser of the configuration, in torch's fastest form."""
    o = cfg.optimizer
    if o.name == "rmsprop":
        decay = {} if o.alpha is None else {"alpha": o.alpha}
        return torch.optim.RMSprop(model.parameters(), lr=o.lr, eps=o.eps, foreach=True, **decay)
    if o.name == "adam_slip":
        return AdamSlip(model.parameters(), lr=o.lr, betas=tuple(o.betas), eps=o.eps)
    return torch.optim.Adam(model.parameters(), lr=o.lr, betas=tuple(o.betas), eps=o.eps, fused=True)


def evaluate(task: Task, norm: Norm, model: nn.Module, seed: int, step: int, splits: tuple[str, ...]) -> dict[str, float]:
    """All measures of some splits, "<split>/<metric>". Nothing that training depends on is changed, but for norm statistics."""
    with set_aside(seed, "evaluation", step):
        number, cases = task.calibration
        batches = task.batches("train", cases)
        whole = min(number, max(1, len(batches) - 1))  # the last batch may be too small to have a variance
        norm.calibrate(model, lambda batch: task.loss(model, batch), (batches[k] for k in range(whole)))
        model.eval()
        values = {f"{split}/{name}": v for split in splits for name, v in task.evaluate(model, split).items()}
        model.train()
    return values
