"""Speed of order embeddings against the same model on torch's packed nn.GRU with the loss written plainly.

An update is embedding, GRU, image map, loss, backward pass, clipping and Adam. Captions are as long as Flickr8k's on average, and
numbered at random: no data are needed. Columns take turns; medians over rounds, ratios within a round. With one thread the clock
is the processor's, with several the wall's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lnexp.nn import NORMS
from lnexp.nn.ops.order_violations import order_violations
from lnexp.provenance import processor
from lnexp.tasks.order_embeddings.retrieval import ranks
from lnexp.tasks.order_embeddings.task import OrderEmbedding, hinge

WORDS, WORD_SIZE, FEATURES, BATCH, LONGEST = 8000, 300, 1280, 128, 27
MARGIN = 0.05


class Plain(OrderEmbedding):
    """The same model as one writes it without lnexp."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(WORDS, FEATURES, WORD_SIZE, hidden_size, NORMS["none"](), LONGEST)
        self.rnn = nn.GRU(WORD_SIZE, hidden_size)

    def captions(self, words_TB: Tensor, lengths_B: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(words_TB), lengths_B, enforce_sorted=False)
        _, last_1BD = self.rnn(packed)
        return self.normalised(last_1BD[0])


def broadcast(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    return (s_CD - v_ID[:, None]).clamp(min=0).square().sum(2)


def update(model: OrderEmbedding, distances: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
    random = torch.Generator().manual_seed(0)
    lengths_B = torch.normal(11.9, 4.0, (BATCH,), generator=random).round().long().clamp(3, LONGEST)
    lengths_B[0] = LONGEST
    batch = (
        torch.rand(BATCH, FEATURES, generator=random),
        torch.randint(2, WORDS, (LONGEST, BATCH), generator=random),
        lengths_B,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def once() -> None:
        optimizer.zero_grad()
        hinge(distances(*model(*batch)), MARGIN)[0].backward()
        for p in model.parameters():
            nn.utils.clip_grad_norm_([p], 2.0)
        optimizer.step()

    return once


def scoring(hidden_size: int) -> Callable[[], None]:
    """All ranks of 1,000 images and 5,000 captions, embedded already."""
    v_ID, s_CD = torch.rand(1000, hidden_size), torch.rand(5000, hidden_size)
    image_of_C = torch.from_numpy(np.repeat(np.arange(1000), 5))
    return lambda: void(ranks(v_ID, s_CD, image_of_C, order_violations))


def void(_: object) -> None:
    return None


def seconds(run: Callable[[], None]) -> float:
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", default="256,512,1024", help="widths, by commas (default: 256,512,1024)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{processor()}; torch {torch.__version__}; {arguments.threads} thread(s); medians of {arguments.rounds} rounds.\n")
    header = ["units", "LN ms", "none ms", "plain torch ms", "LN / plain torch", "LN / none", "ranks of 1,000 x 5,000, s"]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for hidden_size in map(int, arguments.units.split(",")):
        norms = [OrderEmbedding(WORDS, FEATURES, WORD_SIZE, hidden_size, NORMS[n](), LONGEST) for n in ("ln", "none")]
        runs = [
            *(update(model, order_violations) for model in norms),
            update(Plain(hidden_size), broadcast),
            scoring(hidden_size),
        ]
        rounds = [[seconds(run) for run in runs] for _ in range(arguments.rounds + 1)][1:]
        ln, none, plain, score = (statistics.median(r[k] for r in rounds) for k in range(4))
        to_plain, to_none = (statistics.median(r[0] / r[k] for r in rounds) for k in (2, 1))
        cells = [
            str(hidden_size),
            f"{ln * 1e3:.0f}",
            f"{none * 1e3:.0f}",
            f"{plain * 1e3:.0f}",
            f"{to_plain:.2f}",
            f"{to_none:.2f}",
        ]
        print(f"| {' | '.join([*cells, f'{score:.2f}'])} |", flush=True)


if __name__ == "__main__":
    main()
