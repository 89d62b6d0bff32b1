"""Evaluation of classifiers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from lnexp.tasks.base import Batches


class Scores(NamedTuple):
    """Sums over examples.

    Attributes:
        nll: mean negative log-likelihood in nats.
        wrong, examples: number of wrong answers, and of all.
    """

    nll: float
    wrong: int
    examples: int


@torch.no_grad()
def evaluate_classifier(model: nn.Module, batches: Batches, x: str) -> Scores:
    """Score a model that maps batch[x] to logits on batches of {x, "y_B"}."""
    nll, right, examples = 0.0, 0, 0
    for k in range(len(batches)):
        batch = batches[k]
        logits, y_B = model(batch[x]), batch["y_B"]
        nll += F.cross_entropy(logits.double(), y_B, reduction="sum").item()  # float32 cannot tell 1e-9 from 0
        right += int((logits.argmax(1) == y_B).sum())
        examples += len(y_B)
    return Scores(nll / examples, examples - right, examples)
