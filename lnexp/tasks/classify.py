"""How the tasks that name classes measure a model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lnexp.tasks.base import Batches


@torch.no_grad()
def judge(model: nn.Module, batches: Batches, x: str) -> tuple[float, int, int]:
    """(summed negative log-likelihood in nats, right answers, cases) of a model of logits on batches of {x, "y_B"}."""
    nll, right, cases = 0.0, 0, 0
    for k in range(len(batches)):
        batch = batches[k]
        logits, y_B = model(batch[x]), batch["y_B"]
        nll += F.cross_entropy(logits.double(), y_B, reduction="sum").item()  # float32 could not tell 1e-9 from 0
        right += int((logits.argmax(1) == y_B).sum())
        cases += len(y_B)
    return nll, right, cases
