"""How fast the recurrent layers and cells are: every ratio a median over rounds in which all columns take turns.

    python scripts/bench/recurrent.py [--shapes gru-1024,...] [--threads 1,2] [--rounds 5] [--no-reference] [--no-steps]
                                [--compile] [--script] [--write FILE]

Prints two tables in Markdown, that of layers and, from `steps.py`, that of single steps and cells; about 5 minutes on an idle
machine. --compile compiles the training shapes for each number of threads, half a minute each.

"bfloat16" is LN with products="bfloat16"; "reference" LN in plain torch, step by step. "tuned" torch runs in a process of its own
with `torch.set_float32_matmul_precision("medium")` (oneDNN's matrix products, still in float32 where the processor has no AMX)
and with malloc told to keep large blocks, so that they are not faulted in anew.
With one thread the clock is the processor's, with several the wall's.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import steps
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lnexp.nn.ops.recurrent.cpu import fits, fused, has_bfloat16_products
from lnexp.nn.ops.recurrent.interface import GATES, Cell, Inputs, Weights
from lnexp.nn.ops.recurrent.reference import reference

SLOW = ("reference", "compiled", "script")  # columns that are measured less often
SLOW_ROUNDS = 2
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


@dataclass(frozen=True)
class Shape:
    kind: str
    T: int
    B: int
    I: int
    H: int
    work: str = "training"  # forward and backward; "inference": forward alone; "ragged": training on sequences 67 % full

    def floor_seconds(self, peak: float) -> float:
        """The matrix products alone at `peak` operations a second; the backward pass has twice those of the forward."""
        passes = 1 if self.work == "inference" else 3
        full = 2 / 3 if self.work == "ragged" else 1
        return full * passes * 2 * self.T * self.B * GATES[self.kind] * self.H * (self.I + self.H) / peak

    def lengths(self) -> Tensor | None:
        return torch.linspace(self.T / 3, self.T, self.B).long() if self.work == "ragged" else None


SHAPES = {
    "gru-1024": Shape("gru", 30, 128, 300, 1024),
    "gru-1200": Shape("gru", 30, 64, 620, 1200),
    "lstm-784": Shape("lstm", 784, 64, 1, 100),
    "lstm-400": Shape("lstm", 400, 32, 240, 240),
    "lstm-b4": Shape("lstm", 100, 4, 100, 256),
    "gru-b4": Shape("gru", 100, 4, 100, 256),
    "gru-1024-inference": Shape("gru", 30, 128, 300, 1024, "inference"),
    "lstm-784-inference": Shape("lstm", 784, 64, 1, 100, "inference"),
    "lstm-400-ragged": Shape("lstm", 400, 32, 240, 240, "ragged"),
}


def weights(shape: Shape, norm: str) -> Weights:
    G, bound = GATES[shape.kind] * shape.H, shape.H**-0.5

    def uniform(*size: int) -> Tensor:
        return torch.empty(*size).uniform_(-bound, bound).requires_grad_()

    plain = Weights(uniform(G, shape.I), uniform(G, shape.H), uniform(G), uniform(G))
    if norm == "none":
        return plain
    gains = [torch.ones(n, requires_grad=True) for n in (G, G, shape.H)]
    cell = {"gain_c": gains[2], "bias_c": torch.zeros(shape.H, requires_grad=True)} if shape.kind == "lstm" else {}
    return plain._replace(gain_ih=gains[0], gain_hh=gains[1], **cell)


def written_out(kind: str, w: list[Tensor], xs: list[Tensor], h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Some steps of layer-normalised cells as mostly written (GRU: one norm over all gates), to be compiled."""
    weight_ih, weight_hh, bias_ih, bias_hh, gain_ih, gain_hh, gain_c, bias_c = w
    outs: list[Tensor] = []
    G, H = [weight_hh.shape[0]], [h.shape[1]]
    for x in xs:
        a_x = F.layer_norm(F.linear(x, weight_ih), G, gain_ih, bias_ih)
        a_h = F.layer_norm(F.linear(h, weight_hh), G, gain_hh, bias_hh)
        if kind == "lstm":
            i, f, g, o = (a_x + a_h).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * F.layer_norm(c, H, gain_c, bias_c).tanh()
        else:
            x_r, x_z, x_n = a_x.chunk(3, 1)
            h_r, h_z, h_n = a_h.chunk(3, 1)
            z = (x_z + h_z).sigmoid()
            h = (1 - z) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + z * h
        outs.append(h)
    return outs, h, c


def chunked(cell: Callable, kind: str, w: list[Tensor], x_TBI: Tensor, h: Tensor, steps: int) -> Tensor:
    outs: list[Tensor] = []
    c = h
    for xs in zip(*[iter(x_TBI.unbind())] * steps, strict=True):
        more, h, c = cell(kind, w, list(xs), h, c)
        outs += more
    return torch.stack(outs)


def columns(shape: Shape, wanted: list[str]) -> dict[str, Callable[[], None]]:
    """What each column runs once. Equal inputs, and gradients with respect to the input and all parameters."""
    x_TBI = torch.randn(shape.T, shape.B, shape.I, requires_grad=True)
    h_BH, dout_TBH = torch.zeros(shape.B, shape.H), torch.randn(shape.T, shape.B, shape.H)
    c_BH, lengths_B = (h_BH.clone() if shape.kind == "lstm" else None), shape.lengths()
    module = (nn.LSTM if shape.kind == "lstm" else nn.GRU)(shape.I, shape.H)

    def timed(outputs: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], None]:
        def once() -> None:
            with torch.set_grad_enabled(shape.work != "inference"):
                out = outputs()
                if shape.work != "inference":
                    torch.autograd.grad(out, [x_TBI, *parameters], dout_TBH if out.dim() == 3 else torch.ones_like(out))

        return once

    def ours(implementation: Callable, norm: str, products: str = "float32") -> Callable[[], None]:
        w = weights(shape, norm)
        inputs = Inputs(Cell(shape.kind, norm, products=products), w, x_TBI, h_BH, c_BH, lengths_B)
        if implementation is fused and not fits(inputs):
            raise SystemExit("no compiled kernels on this machine: nothing to measure")
        return timed(lambda: implementation(inputs).out_TBH, [p for p in w if p is not None])

    def by_chunks(compiler: Callable) -> Callable[[], None]:
        w, cell = [p for p in weights(shape, "ln") if p is not None], compiler(written_out)
        every = [*w, *w[-2:]] if shape.kind == "gru" else w  # a GRU has no use for the last two
        steps = 8 if shape.T % 10 else 10
        return timed(lambda: chunked(cell, shape.kind, every, x_TBI, h_BH, steps), w)

    def torch_layer() -> Tensor:
        if lengths_B is None:
            return module(x_TBI)[0]
        return module(pack_padded_sequence(x_TBI, lengths_B, enforce_sorted=False))[0].data

    makers: dict[str, Callable[[], Callable[[], None]]] = {
        "LN": lambda: ours(fused, "ln"),
        "none": lambda: ours(fused, "none"),
        "bfloat16": lambda: ours(fused, "ln", "bfloat16"),
        "torch.nn": lambda: timed(torch_layer, list(module.parameters())),
        "reference": lambda: ours(reference, "ln"),
        "compiled": lambda: by_chunks(torch.compile),
        "script": lambda: by_chunks(torch.jit.script),
    }
    return {name: makers[name]() for name in wanted}


def seconds(run: Callable[[], object]) -> float:
    """One thread: its processor time, which other work on the machine does not stretch. Several: time on the wall."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


class Tuned:
    """torch's layer in a process of its own that runs it once for every line it is sent."""

    def __init__(self, shape: str, threads: int) -> None:
        command = [sys.executable, __file__, "--serve", shape, "--threads", str(threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **MALLOC})

    def __call__(self) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def serve(shape: str) -> None:
    torch.set_float32_matmul_precision("medium")
    run = columns(SHAPES[shape], ["torch.nn"])["torch.nn"]
    for _ in sys.stdin:
        print(seconds(run), flush=True)


def measured_peak() -> float:
    """Operations a second of the fastest matrix product that torch has here."""
    a, b, best = torch.randn(1024, 1024), torch.randn(1024, 1024), float("inf")
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        best = min(best, *(seconds(lambda: a @ b) for _ in range(20)))
    torch.set_float32_matmul_precision("highest")
    return 2 * 1024**3 / best


def measure(name: str, threads: int, rounds: int, wanted: list[str]) -> dict[str, list[float]]:
    shape = SHAPES[name]
    runs = columns(shape, [c for c in wanted if shape.work == "training" or c not in ("compiled", "script")])
    tuned = Tuned(name, threads)
    times: dict[str, list[float]] = {column: [] for column in [*runs, "tuned"]}
    for turn in range(rounds + 1):
        taken = {column: seconds(run) for column, run in runs.items() if turn <= SLOW_ROUNDS or column not in SLOW}
        taken["tuned"] = tuned()
        for column, t in taken.items():
            if turn > 0:  # the first warms up
                times[column].append(t)
    tuned.close()
    return times


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in reversed(lines) if ":" in line}
    if "model name" not in known:
        return platform.processor() or platform.machine()
    return f"{known['model name']} (family {known.get('cpu family')}, model {known.get('model')})"


def row(name: str, threads: int, times: dict[str, list[float]], peak: float, wanted: list[str]) -> str:
    shape = SHAPES[name]
    floor = shape.floor_seconds(peak)

    def ratio(one: str, other: str) -> str:
        return f"{median(a / b for a, b in zip(times[one], times[other], strict=True)):.2f}" if one in times else "-"

    label = f"{shape.kind.upper()} {shape.T}/{shape.B}/{shape.I}/{shape.H} {shape.work}"
    milliseconds = [f"{median(times[column]) * 1e3:.1f}" if column in times else "-" for column in [*wanted, "tuned"]]
    ratios = [*(ratio("LN", other) for other in ("torch.nn", "tuned", "none")), f"{median(times['LN']) / floor:.2f}"]
    ratios.append(ratio("bfloat16", "torch.nn"))
    return "| " + " | ".join([label, str(threads), *milliseconds, f"{floor * 1e3:.1f}", *ratios]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-reference", action="store_true", help="leave out the slowest column")
    parser.add_argument("--no-steps", action="store_true", help="leave out the table of steps and cells")
    parser.add_argument("--compile", action="store_true", help="torch.compile'd chunks of steps; compiling takes minutes")
    parser.add_argument("--script", action="store_true", help="TorchScript'd chunks of steps")
    parser.add_argument("--write", type=Path, help="also write the table into this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.shapes.split(",")) - set(SHAPES))
    if unknown:
        raise SystemExit(f"--shapes {','.join(unknown)}: allowed are {', '.join(SHAPES)}")
    if arguments.serve:
        torch.set_num_threads(int(arguments.threads))
        return serve(arguments.serve)

    wanted = ["LN", "none"] + ["bfloat16"] * has_bfloat16_products() + ["torch.nn"]
    wanted += ["reference"] * (not arguments.no_reference)
    wanted += ["compiled"] * arguments.compile + ["script"] * arguments.script
    header = ["layer T/B/I/H", "threads", *(f"{column} ms" for column in [*wanted, "tuned"]), "floor ms"]
    header += ["LN / torch.nn", "LN / tuned", "LN / none", "LN / floor", "bfloat16 / torch.nn"]
    lines = [
        f"{processor()}; torch {torch.__version__}; medians of {arguments.rounds} rounds, the columns taking turns.",
        "",
    ]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    print("\n".join(lines), flush=True)
    every = [int(threads) for threads in arguments.threads.split(",")]
    for threads in every:
        torch.set_num_threads(threads)
        peak = measured_peak()
        for name in arguments.shapes.split(","):
            lines.append(row(name, threads, measure(name, threads, arguments.rounds, wanted), peak, wanted))
            print(lines[-1], flush=True)
    if not arguments.no_steps:
        print()
        lines += ["", *steps.table(every, arguments.rounds)]
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
