"""Speed of the trainer against a bare PyTorch loop of the same network: interleaved rounds, medians, ratios within a round."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from lnexp import config, paths
from lnexp.provenance import processor
from lnexp.training.distributed import ProcessGroup
from lnexp.training.progress import Progress
from lnexp.training.runlog import RunLog
from lnexp.training.trainer import fit
from lnexp.training.wandb_logger import NoLogger

UPDATES = {128: 80, 4: 400}


def ours(batch_size: int, norm: str, device: str) -> float:
    """Seconds an update in the trainer, its rows, checkpoints and progress line included, evaluation left out."""
    steps = UPDATES[batch_size]
    with tempfile.TemporaryDirectory() as folder:
        cfg = config.compose(
            ["task=mnist", f"norm={norm}", f"batch_size={batch_size}", f"max_updates={steps}", f"results_dir={folder}"]
        )
        task = config.make_task(cfg, device)
        task.evaluations = tuple  # type: ignore[method-assign]  # evaluation is not measured
        log = RunLog(Path(folder) / "run", cfg, {}, Progress("bench", shown=False), NoLogger())
        summary = fit(task, config.make_norm(cfg), cfg, ProcessGroup(device), log)
        log.close()
    assert summary is not None
    return summary["seconds"] / steps


def bare(batch_size: int, norm: str, x: torch.Tensor, y: torch.Tensor) -> float:
    """Seconds an update in the shortest loop that trains the same network."""
    layers: list[nn.Module] = []
    for inputs, units in ((784, 1000), (1000, 1000)):
        layers += [nn.Linear(inputs, units, bias=norm == "none")]
        layers += [nn.LayerNorm(units)] if norm == "ln" else []
        layers += [nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(1000, 10)).to(x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    order = torch.randperm(len(x)).to(x.device)
    if x.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    for k in range(UPDATES[batch_size]):
        rows = order[k * batch_size : (k + 1) * batch_size]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    if x.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / UPDATES[batch_size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = config.choose_device(arguments.device)
    digits = config.make_task(config.compose(["task=mnist"]), device).batches("train", 55_000)[0]
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{processor()}, 1 thread"
    print(f"Trainer against a bare loop, MNIST 784-1000-1000-10, {name}, medians of {arguments.rounds} interleaved rounds\n")
    print("| norm | batch | bare, ms an update | trainer, ms an update | trainer's speed / bare |\n|---|---|---|---|---|")
    for norm in ("none", "ln"):
        for batch_size in UPDATES:
            rounds = [
                (bare(batch_size, norm, digits["x_BD"], digits["y_B"]), ours(batch_size, norm, device))
                for _ in range(arguments.rounds)
            ]
            b, o = (statistics.median(r[i] for r in rounds) * 1e3 for i in (0, 1))
            ratio = statistics.median(r[0] / r[1] for r in rounds)
            print(f"| {norm} | {batch_size} | {b:.3f} | {o:.3f} | {ratio:.3f} |")
    starts = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, str(paths.ROOT / "train.py"), "--help"], stdout=subprocess.DEVNULL, check=True)
        starts.append(time.perf_counter() - started)
    print(f"\n`python train.py --help`: {statistics.median(starts):.2f} s")


if __name__ == "__main__":
    main()
