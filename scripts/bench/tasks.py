"""Training of whole models against a plain implementation of the same: updates and words a second.

    python scripts/bench/tasks.py TASK [--rounds 3] [--updates 2] [overrides, such as norm=bn]

question_answering: the plain side has cells step by step. skip_thoughts: it has these, and logits at padded places too.

Both sides take turns with the same model on the same batches, all of an update in the time: batch, loss, gradients, clipping,
Adam. The clock is the processor's, with one thread. With task.softmax_products=bfloat16 our side rounds its products, the plain
one never does.
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
from lnexp.identity import run_id
from lnexp.provenance import processor
from lnexp.seeding import seed_everything
from lnexp.tasks.base import Batch, words
from lnexp.tasks.skip_thoughts.model import SkipThoughtsNet
from lnexp.training.distributed import ProcessGroup
from lnexp.training.optim import make_optimizer

SIZES = {
    "question_answering": [],
    "skip_thoughts": ["task.vocabulary_size=20000", "task.word_size=300", "task.hidden_size=600", "task.probes=none"],
}


def padded_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Skip-thoughts as one writes it first: logits at every position, padding among them, which the loss then passes over."""
    assert isinstance(model, SkipThoughtsNet)
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
    parser.add_argument("task", choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=2, help="of each side in a round")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    cfg = config.compose([f"task={arguments.task}", "device=cpu", *SIZES[arguments.task], *overrides])
    task = config.make_task(cfg, "cpu")
    seed_everything(0, "init")
    model = task.build(config.make_norm(cfg))
    optimizer, batches = make_optimizer(model, cfg.optimizer), task.batches("train", cfg.batch_size, seed=0)
    plain = padded_loss if arguments.task == "skip_thoughts" else task.loss
    group = ProcessGroup("cpu")
    loss_of = {True: group.wrap(model, task.loss), False: group.wrap(model, plain)}

    def seconds(first: int, ours: bool) -> float:
        os.environ["LNEXP_FUSED"] = "1" if ours else "0"
        started = time.process_time()
        for k in range(first, first + arguments.updates):
            optimizer.zero_grad()
            loss_of[ours](batches[k])[0].backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)
            optimizer.step()
        return time.process_time() - started

    for ours in (True, False):
        seconds(0, ours)
    rates, fast, ratios = [], [], []
    for first in range(0, arguments.rounds * arguments.updates, arguments.updates):
        one, other = seconds(first, True), seconds(first, False)
        rates.append(sum(words(batches[k]) for k in range(first, first + arguments.updates)) / one)
        fast.append(arguments.updates / one)
        ratios.append(other / one)
    print(f"{run_id(cfg)} on {processor()}, 1 thread, medians of {arguments.rounds} rounds:")
    print(
        f"{statistics.median(fast):.3g} updates a second, {statistics.median(rates):.0f} words: "
        f"{statistics.median(ratios):.2f} times as many as plain"
    )


if __name__ == "__main__":
    main()
