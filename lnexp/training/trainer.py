"""The training loop: one function for every task."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from lnexp.nn import Norm
from lnexp.seeding import generator_states, restore_generators, seed_everything, set_aside
from lnexp.tasks.base import Task, When, build_model, words
from lnexp.tasks.ones_share import ones_shares
from lnexp.training.distributed import ProcessGroup
from lnexp.training.interrupt import Interrupt
from lnexp.training.optim import make_optimizer
from lnexp.training.runlog import RunLog
from lnexp.training.stopwatch import Stopwatch


def fit(
    task: Task, norm: Norm, cfg: DictConfig, group: ProcessGroup, log: RunLog | None, interrupt: Interrupt | None = None
) -> dict[str, Any] | None:
    """Train one model, from its latest checkpoint if there is one, to the end of its budget.

    Every random number is a function of (seed, purpose), and a checkpoint holds all that an update depends on: a run that was
    killed and started again writes the same metrics (except for times) and the same weights as one that was not.

    Args:
        task: data, model, loss and evaluations.
        norm: the normalisation of the model.
        cfg: the configuration, see configs/config.yaml.
        group: the processes that train together.
        log: writes the run's folder; None in all processes but the first.
        interrupt: asked after each update whether to save a checkpoint and stop.

    Returns:
        The run's summary, None without a log. A loss that is not finite ends the run with status "diverged".

    Raises:
        KeyboardInterrupt: `interrupt` was requested; a checkpoint of the last update has been saved.
    """
    seed_everything(cfg.seed, "init")
    model = build_model(task, norm).to(group.device)
    optimizer = make_optimizer(model, cfg.optimizer)
    seed_everything(cfg.seed, "noise", group.rank)

    loss_and_parts = group.wrap(model, task.loss)
    sums: dict[str, torch.Tensor] = {}  # of the loss and its parts since they were last logged; on the device
    step, summed, best, status = 0, 0, None, "finished"
    watch = Stopwatch(group.device)
    if (state := group.gather(log.resume() if log else None)[0]) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_generators(state["generators"][group.rank])
        sums = {name: value.to(group.device) for name, value in state["sums"][group.rank].items()}
        step, summed, best = state["step"], state["summed"], state["best"]
        watch.restore(state["times"])

    per_epoch, steps, eval_every = schedule(task, cfg)
    early = {max(1, per_epoch >> k) for k in range(1, (cfg.early_evaluations or 0) + 1)}
    log_every, save_every = cfg.log_every, cfg.checkpoint_every or steps
    measures = partial(evaluate, task, norm, model, cfg.seed, shares=bool(cfg.ones_share))
    clipped, shown = clipping(model, cfg), [curve.metric for curve in task.curves]
    selects = any("end" in evaluation.when for evaluation in task.evaluations())
    if log:
        if step:
            log.progress.say(f"resumed at update {step} of {steps}")
        log.progress.start(step, steps, ("loss", task.curves[0].metric))
        if step == 0 and (values := measures(0, "start")):
            log.write(0, 0, watch.times, values)

    while step < steps and status == "finished":
        epoch, first = divmod(step, per_epoch)
        batches = task.batches("train", cfg.batch_size, cfg.seed, epoch, (group.rank, group.size))
        model.train()
        watch.start()
        for k in range(first, min(per_epoch, first + steps - step)):
            optimizer.zero_grad()
            batch = batches[k]
            loss, parts = loss_and_parts(batch)
            loss.backward()
            for parameters, limit in clipped:
                nn.utils.clip_grad_norm_(parameters, limit)
            optimizer.step()
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0) + value.detach()
            step, summed = step + 1, summed + 1
            if log:
                log.progress.step(words(batch))

            evaluates = step % eval_every == 0 or step in early or step == steps
            logs = evaluates or step % log_every == 0
            stops = group.any(interrupt is not None and interrupt.requested, synchronise=logs)
            due = group.any(log is not None and log.save_is_due(), synchronise=logs)
            saves = evaluates or stops or due or step % save_every == 0
            if not (logs or saves):
                continue
            watch.stop()
            if logs:
                means = {f"train/{name}": group.mean(value) / summed for name, value in sums.items()}
                sums, summed = {}, 0
                if log:
                    log.write(step, epoch, watch.times, means)
                    log.progress.show(step, {"loss": means["train/loss"]})
                if not math.isfinite(means["train/loss"]):
                    status = "diverged"
                    break
            if evaluates and log:
                values = measures(step, "during")
                log.write(step, epoch, watch.times, values)
                log.progress.show(step, {name: values[name] for name in shown if name in values}, now=True)
                if selects and task.curves[0].improves(values[task.curves[0].metric], best):
                    best = values[task.curves[0].metric]
                    log.save_best(model.state_dict())
            if saves:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"step": step, "summed": summed, "times": tuple(watch.times), "best": best}
                state["generators"] = group.gather(generator_states())
                state["sums"] = group.gather({name: value.cpu() for name, value in sums.items()})
                if log:
                    log.save(state)
            if stops and step < steps:
                raise KeyboardInterrupt
            watch.start()

    if log and best is not None:
        model.load_state_dict(log.best_weights())
        log.write(step, (step - 1) // per_epoch, watch.times, measures(step, "end"))
    if log and cfg.samples and status == "finished":
        with set_aside(cfg.seed, "samples"), torch.no_grad():
            task.samples(model.eval(), log.folder / "samples")
    group.wait()
    return log.finish(status, task.curves) if log else None


def schedule(task: Task, cfg: DictConfig) -> tuple[int, int, int]:
    """Number of updates in an epoch, in the whole run, and between two evaluations."""
    per_epoch = len(task.batches("train", cfg.batch_size, cfg.seed))
    steps = min(n for n in (cfg.max_updates, cfg.epochs and cfg.epochs * per_epoch) if n is not None)
    return per_epoch, steps, cfg.eval_every or (cfg.evaluations and -(-steps // cfg.evaluations)) or per_epoch


def clipping(model: nn.Module, cfg: DictConfig) -> list[tuple[list[nn.Parameter], float]]:
    """(parameters, largest norm of their joint gradient): each tensor by itself (clip_norm_each), then all (clip_norm)."""
    parameters = list(model.parameters())
    each = [([p], cfg.clip_norm_each) for p in parameters] if cfg.clip_norm_each else []
    return each + ([(parameters, cfg.clip_norm)] if cfg.clip_norm else [])


def evaluate(
    task: Task, norm: Norm, model: nn.Module, seed: int, step: int, when: When, shares: bool = False
) -> dict[str, float]:
    """All metrics of the evaluations that run at `when`, as "<evaluation>/<metric>".

    Population statistics of norms are estimated first. Each evaluation draws from generators seeded by (seed, step, its name):
    the same noise under every norm. Training is not affected. With `shares`, also "recurrent/ones_share", in mean over the
    recurrent layers of the model, on a batch of training data (`lnexp.tasks.ones_share`).
    """
    values: dict[str, float] = {}
    due = [evaluation for evaluation in task.evaluations() if when in evaluation.when]
    if not due:
        return values
    with set_aside(seed, "evaluation", step):
        number, batch_size = task.calibration
        batches = task.batches("train", batch_size)
        whole = min(number, max(1, len(batches) - 1))  # the last batch may be too small to have a variance
        norm.calibrate(model, lambda batch: task.loss(model, batch), (batches[k] for k in range(whole)))
        model.eval()
        for evaluation in due:
            seed_everything(seed, "evaluation", step, evaluation.name)
            values |= {f"{evaluation.name}/{name}": value for name, value in evaluation.measure(model).items()}
        if shares and when == "during":
            with torch.no_grad(), ones_shares(model) as found:
                task.loss(model, batches[0])
            values |= {"recurrent/ones_share": sum(found) / len(found)} if found else {}
        model.train()
    return values
