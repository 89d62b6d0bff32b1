"""How much one step of a layer-normalised cell costs: against a step inside a sequence, and in training against torch's cell.

    python scripts/bench/steps.py [--threads 1,2] [--rounds 5]

"packed" is a step without gradients inside `cell.packed()`, "in sequence" a step of the layer over 200 of them. "training" is one
step forward and backward with gradients of all parameters and of the states. Medians of rounds in which all take turns; with one
thread the clock is the processor's. `scripts/bench/recurrent.py` prints this table after its own.

Shapes: B batch, I input, H hidden.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

import lnexp.nn as ours

CELLS = (("LSTM", 1, 64, 256), ("LSTM", 1, 64, 512), ("GRU", 1, 300, 1024), ("LSTM", 32, 64, 512), ("GRU", 64, 300, 1024))
HEADER = (
    "cell B/I/H",
    "threads",
    "packed us",
    "in sequence us",
    "packed / in sequence",
    "torch's step us",
    "training us",
    "torch's training us",
    "training / torch's",
)
STEPS = 200  # of a sequence
SECONDS = 0.05  # that each measurement takes at least


def microseconds(run: Callable[[], object]) -> float:
    """The time of one call, from as many as take long enough for the clock."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    calls, start = 0, clock()
    while clock() - start < SECONDS:
        run()
        calls += 1
    return (clock() - start) / calls * 1e6


def training(cell: nn.Module, x_BI: Tensor, states: tuple[Tensor, ...]) -> Callable[[], object]:
    leaves = [*states, *cell.parameters()]

    def once() -> None:
        new = cell(x_BI, states if len(states) > 1 else states[0])
        torch.autograd.grad([*new] if len(states) > 1 else [new], leaves, [torch.ones_like(states[0])] * len(states))

    return once


def row(kind: str, B: int, I: int, H: int, rounds: int) -> str:
    x_BI, x_TBI = torch.randn(B, I), torch.randn(STEPS, B, I)
    states = tuple(torch.randn(B, H) for _ in range(2 if kind == "LSTM" else 1))
    trained = tuple(s.clone().requires_grad_() for s in states)
    hx = states if kind == "LSTM" else states[0]
    start = tuple(s[None] for s in states) if kind == "LSTM" else states[0][None]
    cell, layer, theirs = (make(I, H) for make in (getattr(ours, f"{kind}Cell"), getattr(ours, kind), getattr(nn, f"{kind}Cell")))
    runs = {
        "packed": lambda: cell(x_BI, hx),
        "sequence": lambda: layer(x_TBI, start),
        "torch": lambda: theirs(x_BI, hx),
        "training": training(cell, x_BI, trained),
        "torch training": training(theirs, x_BI, trained),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    with cell.packed():
        for turn in range(rounds + 1):
            for name, run in runs.items():
                with torch.set_grad_enabled("training" in name):
                    taken = microseconds(run) / (STEPS if name == "sequence" else 1)
                if turn > 0:  # the first warms up
                    times[name].append(taken)

    def ratio(one: str, other: str) -> str:
        return f"{median(a / b for a, b in zip(times[one], times[other], strict=True)):.2f}"

    us = {name: f"{median(taken):.0f}" for name, taken in times.items()}
    steps = [us["packed"], us["sequence"], ratio("packed", "sequence"), us["torch"]]
    cells = [us["training"], us["torch training"], ratio("training", "torch training")]
    return "| " + " | ".join([f"{kind} {B}/{I}/{H}", str(torch.get_num_threads()), *steps, *cells]) + " |"


def table(threads: list[int], rounds: int) -> list[str]:
    """The table's lines, each printed as soon as it is known."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    print("\n".join(lines), flush=True)
    for number in threads:
        torch.set_num_threads(number)
        for cell in CELLS:
            lines.append(row(*cell, rounds))
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table([int(number) for number in arguments.threads.split(",")], arguments.rounds)


if __name__ == "__main__":
    main()
