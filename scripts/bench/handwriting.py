"""Training of the handwriting network against the same step by step in plain torch calls, with torch's own layer_norm.

    python scripts/bench/handwriting.py [--norms none,ln] [--rounds 5] [--updates 2] [overrides, such as task.steps=500]

Both sides take turns with the same model on the same batches, all of an update in the time: batch, loss, gradients, clipping,
Adam. The clock is the processor's, with one thread.

Shapes: T steps, B batch, H hidden, U symbols of the longest text.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp import config
from lnexp.data.strokes.alphabet import SYMBOLS
from lnexp.identity import run_id
from lnexp.nn import LSTM
from lnexp.nn.ops.mixture_density import plain
from lnexp.nn.ops.window.reference import attend, one_hot
from lnexp.provenance import processor
from lnexp.seeding import seed_everything
from lnexp.tasks.base import Batch
from lnexp.tasks.handwriting.model import HandwritingNet, real
from lnexp.training.optim import make_optimizer


def step(layer: LSTM, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor]:
    """Equations (20)-(22) as one writes them with torch."""
    w = layer.weights("l0")
    if layer.cell.norm == "none":
        a_BG = F.linear(x_BI, w.weight_ih, w.bias_ih) + F.linear(h_BH, w.weight_hh, w.bias_hh)
    else:
        G, eps = [len(w.weight_hh)], layer.cell.eps
        a_BG = F.layer_norm(F.linear(x_BI, w.weight_ih), G, w.gain_ih, w.bias_ih, eps)
        a_BG = a_BG + F.layer_norm(F.linear(h_BH, w.weight_hh), G, w.gain_hh, w.bias_hh, eps)
    i, f, g, o = a_BG.chunk(4, 1)
    c_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()
    normal_BH = c_BH if w.gain_c is None else F.layer_norm(c_BH, [layer.hidden_size], w.gain_c, w.bias_c, layer.cell.eps)
    return o.sigmoid() * normal_BH.tanh(), c_BH


def eager_loss(model: HandwritingNet, batch: Batch) -> Tensor:
    """The loss of the task, all layers step by step."""
    x_TB3, B = batch["x_TB3"], batch["x_TB3"].shape[1]
    layers = [layer for layer in model.rnn if isinstance(layer, LSTM)]
    assert model.window is not None
    hot_BUC = one_hot(batch["codes_BU"], batch["characters_B"], SYMBOLS, x_TB3.dtype)
    states = [(x_TB3.new_zeros(B, layer.hidden_size), x_TB3.new_zeros(B, layer.hidden_size)) for layer in layers]
    kappa_BK, w_BC = x_TB3.new_zeros(B, model.window.out_features // 3), x_TB3.new_zeros(B, SYMBOLS)
    outs = []
    for x_B3 in x_TB3.unbind():
        below: list[Tensor] = []
        for n, layer in enumerate(layers):
            states[n] = step(layer, torch.cat([x_B3, w_BC, *below[-1:]], 1), *states[n])
            below.append(states[n][0])
            if n == 0:
                phi_BU, kappa_BK = attend(model.window(below[0]), kappa_BK, hot_BUC.shape[1])
                w_BC = (phi_BU[:, None] @ hot_BUC)[:, 0]
        outs.append(torch.cat(below, 1))
    inside_TB = real(batch)
    return plain(model.output(torch.stack(outs)[inside_TB]), batch["target_TB3"][inside_TB]).sum() / inside_TB.sum()


def compare(norm: str, rounds: int, updates: int, overrides: list[str]) -> None:
    cfg = config.compose(["task=handwriting", f"norm={norm}", "device=cpu", *overrides])
    task = config.make_task(cfg, "cpu")
    seed_everything(0, "init")
    model = task.build(config.make_norm(cfg))
    assert isinstance(model, HandwritingNet)
    optimizer, batches = make_optimizer(model, cfg.optimizer), task.batches("train", cfg.batch_size, seed=0)

    def seconds(first: int, ours: bool) -> float:
        started = time.process_time()
        for k in range(first, first + updates):
            optimizer.zero_grad()
            loss = task.loss(model, batches[k])[0] if ours else eager_loss(model, batches[k])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)
            optimizer.step()
        return (time.process_time() - started) / updates

    for ours in (True, False):
        seconds(0, ours)
    pairs = [(seconds(first, True), seconds(first, False)) for first in range(0, rounds * updates, updates)]
    one, other = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
    ratio = statistics.median(eager / ours for ours, eager in pairs)
    with torch.no_grad():
        apart = abs(float(eager_loss(model, batches[0]) - task.loss(model, batches[0])[0]))
    print(f"{run_id(cfg)}: {one:.1f} ms an update, eager {other:.1f}: {ratio:.2f} times as fast; losses differ by {apart:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norms", default="none,ln", help="of none, wn and ln")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2, help="of each side in a round")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    print(f"{processor()}, 1 thread, medians of {arguments.rounds} rounds:")
    for norm in arguments.norms.split(","):
        compare(norm, arguments.rounds, arguments.updates, overrides)


if __name__ == "__main__":
    main()
