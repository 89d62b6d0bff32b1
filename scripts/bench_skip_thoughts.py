"""Words a second of skip-thoughts' training against a plain implementation: cells step by step, and padded logits.

    python scripts/bench_skip_thoughts.py [--rounds 3] [--updates 2] [overrides, such as task.hidden_size=300]

Both sides take turns with the same model on the same batches, all of an update in the time: batch, loss, gradients, clipping,
Adam. A word is one that a decoder has to tell. The clock is the processor's, with one thread. With
task.softmax_products=bfloat16 our side rounds its products, the plain one never does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp import config
from lnexp.provenance import processor
from lnexp.seeding import seed_everything
from lnexp.tasks.base import Batch
from lnexp.tasks.skip_thoughts import SkipThoughtsNet
from lnexp.trainer import make_optimizer

SIZES = ["task.vocabulary_size=20000", "task.word_size=300", "task.hidden_size=600", "task.probes=none"]


def plain_loss(model: SkipThoughtsNet, batch: Batch) -> Tensor:
    """What one writes first: logits at every position, padding among them, which the loss then passes over."""
    read_1BH = model.encoder(batch["source_TB"], batch["source_lengths_B"])
    losses = []
    for rnn, name in ((model.before, "before_SB"), (model.after, "after_RB")):
        words_SB, lengths_B = batch[name], batch[f"{name.partition('_')[0]}_lengths_B"]
        x_SBD = F.pad(model.encoder.embedding(words_SB[:-1]), (0, 0, 0, 0, 1, 0))
        h_SBH, _ = rnn(x_SBD, read_1BH, lengths=lengths_B)
        padding_SB = torch.arange(len(words_SB))[:, None] >= lengths_B
        target_SB = words_SB.masked_fill(padding_SB, -100)
        losses.append(F.cross_entropy(model.output(h_SBH).flatten(0, 1), target_SB.flatten(), reduction="sum"))
    return losses[0] + losses[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=2, help="of each side in a round")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    cfg = config.compose(["task=skip_thoughts", "device=cpu", *SIZES, *overrides])
    task = config.make_task(cfg, "cpu")
    seed_everything(0, "init")
    model = task.build(config.make_norm(cfg))
    optimizer, batches = make_optimizer(model, cfg), task.batches("train", cfg.batch_size, seed=0)

    def words_a_second(first: int, ours: bool) -> float:
        os.environ["LNEXP_FUSED"] = "1" if ours else "0"
        started, words = time.process_time(), 0
        for k in range(first, first + arguments.updates):
            batch = batches[k]
            optimizer.zero_grad()
            assert isinstance(model, SkipThoughtsNet)
            (task.loss(model, batch) if ours else plain_loss(model, batch)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)
            optimizer.step()
            words += int(batch["before_lengths_B"].sum() + batch["after_lengths_B"].sum())
        return words / (time.process_time() - started)

    for ours in (True, False):
        words_a_second(0, ours)
    rounds = [
        (words_a_second(k, True), words_a_second(k, False))
        for k in range(0, arguments.rounds * arguments.updates, arguments.updates)
    ]
    fast, slow = (statistics.median(side) for side in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"{config.run_id(cfg)} on {processor()}, 1 thread, medians of {arguments.rounds} rounds:")
    print(f"{fast:.0f} words a second, plain {slow:.0f}: {ratio:.2f} times as many")


if __name__ == "__main__":
    main()
