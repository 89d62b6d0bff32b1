"""Permutation-invariant MNIST: 784-1000-1000-10 (paper section 6.6, Figure 6).

Shapes: B batch, D pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data import mnist
from lnexp.data.batches import ArrayBatches
from lnexp.errors import UserError, unknown
from lnexp.nn import NORMS, NoNorm, Norm
from lnexp.tasks.base import Batch, Curve, Share, Task
from lnexp.tasks.classify import judge

CLASSES = 10


class MNIST(Task):
    """Digits as 784 pixels without their places.

    Args:
        hidden_sizes: units of each hidden layer (paper: 1000, 1000).
        output_norm: names of the norms that also act on the logits (paper: batch normalisation).
        train_examples: use only the first so many training digits; None for all of them.
    """

    name = "mnist"
    revision = 1
    splits = ("train", "valid", "test")
    curves = (
        Curve("train/nll", "training NLL (nats)", "lower", "Figure 6"),
        Curve("test/error", "test error", "lower", "Figure 6"),
        Curve("valid/error", "validation error", "lower", "extension"),
    )
    differences = (
        "The paper gives neither learning rate, activation, initialisation nor input scaling: 1e-3, ReLU, Glorot uniform with "
        "zero biases and pixels / 255 reproduce the first point of its Figure 6.",
        "The paper does not say what batch normalisation uses at test time: statistics are estimated anew over 10,000 training "
        "digits before each evaluation, since running averages are poor at batch 4.",
        "Batch normalisation acts on the logits too: our reading of 'applied to all layers'.",
        "What does not fill a batch is left out of its epoch (88 of 55,000 digits at batch 128, another 88 each time).",
    )

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        output_norm: Sequence[str],
        train_examples: int | None,
        data: Mapping[str, Any],
        data_dir: Path,
        device: str,
    ) -> None:
        if not hidden_sizes or any(not isinstance(n, int) or n < 1 for n in hidden_sizes):
            raise UserError(f"task.hidden_sizes={list(hidden_sizes)}: must be whole numbers, 1 or more")
        for name in output_norm:
            if name not in NORMS:
                raise unknown("task.output_norm", name, NORMS)
        self.hidden_sizes, self.output_norm = tuple(hidden_sizes), tuple(output_norm)
        self.data: dict[str, dict[str, Tensor]] = {}
        for split, (pixels, labels) in mnist.load(data, data_dir).items():
            keep = slice(0, train_examples if split == "train" else None)
            x = torch.from_numpy(pixels[keep].astype("float32")).div_(255).to(device)
            self.data[split] = {"x_BD": x, "y_B": torch.from_numpy(labels[keep].astype("int64")).to(device)}

    def build(self, norm: Norm) -> nn.Module:
        size, layers = self.data["train"]["x_BD"].shape[1], []
        for hidden in self.hidden_sizes:
            layers += [*linear(size, hidden, norm), nn.ReLU()]
            size = hidden
        layers += linear(size, CLASSES, norm if {norm.name, norm.cells} & set(self.output_norm) else NoNorm())
        return nn.Sequential(*layers)

    def batches(
        self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)
    ) -> ArrayBatches:
        return ArrayBatches(self.data[split], batch_size, seed, epoch, share)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch["x_BD"]), batch["y_B"])

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """nll: mean negative log-likelihood in nats; error: share of wrong digits."""
        nll, right, cases = judge(model, self.batches(split, batch_size=1000), "x_BD")
        return {"nll": nll / cases, "error": (cases - right) / cases}


def linear(size: int, units: int, norm: Norm) -> list[nn.Module]:
    """A linear layer, Glorot uniform with zero bias, and its norm. The draws are the same under every norm."""
    layer = nn.utils.skip_init(nn.Linear, size, units, bias=not norm.shifts)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return [norm.weight(layer), norm.dense(units)]
