"""Classification of images by a convolutional net (paper section 6.7, which shows no network, data, number or figure).

Shapes: B batch, Y rows, X columns, C colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data.batches import Batches, array_batches
from lnexp.data.images import image_set
from lnexp.errors import UserError, check_choice, check_integer, check_number
from lnexp.nn import Norm
from lnexp.nn.conv import OVER
from lnexp.tasks.base import Batch, Curve, Evaluation, Setting, Share, Task
from lnexp.tasks.classification import evaluate_classifier
from lnexp.tasks.convnet.border import border_statistics
from lnexp.tasks.convnet.model import ConvNet, sides

STANDARDISED = 10_000  # first training images, over which pixels are standardised
EVALUATION_BATCH = 250


class ConvolutionalNet(Task):
    """Classification of images by convolutions of 3 x 3, a mean over positions and a linear layer.

    Args:
        setting: data set and device.
        channels, strides: of each layer; both lists have one value a layer.
        statistics: what the norms over units (ln, ln_simple, rms, group) take together. map: all channels and positions of a
            layer (the paper's layer); position: the channels at each position; instance: the positions of each channel. Other
            norms ignore it.
        init_scale: factor on He's standard deviation of the initial weights.
        flip: mirror each training image left to right with probability 1/2.
        train_examples: number of training images used; None: all.
        eval_examples: number of images of the training and of the validation set that are evaluated; None: all.
        border_examples: number of validation images over which units at the border are described.
    """

    name = "convnet"
    revision = 1
    calibration = (10, 250)
    curves = (
        Curve("valid/error", "validation error", "lower", "extension"),
        Curve("train/nll", "training NLL (nats)", "lower", "section 6.7"),
        Curve("test/error", "test error", "lower", "section 6.7"),
        Curve("border/on_ratio", "share of units on, border / inside", "lower", "section 6.7"),
        Curve("border/spread_ratio", "spread of summed inputs, border / inside", "lower", "section 6.7"),
    )
    differences = (
        "The paper reports preliminary experiments with convolutional networks without a network, data, number or figure: all "
        "settings are ours. MNIST is the default, a folder of images (CIFAR-10, say) the second data set.",
        "Layer normalisation takes all channels and positions of a layer together, as the paper's equation (3) says of the units "
        "of a layer, but gains and biases are one per channel, shared over positions as the kernels are. task.statistics has the "
        "two other forms in use: over the channels at each position, and over the positions of each channel (instance "
        "normalisation).",
        "convnet uses one learning rate for all norms, 1e-3, at which all of them trained in trials on CIFAR-10; convnet_rates "
        "has a grid for each norm on other seeds.",
        "The border of a feature map is its outermost ring; the paper says 'near the boundary of the image'.",
    )

    def __init__(
        self,
        setting: Setting,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        statistics: str,
        init_scale: float,
        flip: bool,
        train_examples: int | None,
        eval_examples: int | None,
        border_examples: int,
    ) -> None:
        for key, values in (("channels", channels), ("strides", strides)):
            if not values:
                raise UserError(f"task.{key}=[]: must hold one number or more")
            for value in values:
                check_integer(f"task.{key}", value)
        if len(channels) != len(strides):
            raise UserError(f"task.strides={list(strides)}: must hold {len(channels)} numbers, as task.channels does")
        check_choice("task.statistics", statistics, OVER)
        check_number("task.init_scale", init_scale, above=0)
        check_integer("task.train_examples", train_examples, optional=True)
        check_integer("task.eval_examples", eval_examples, optional=True)
        check_integer("task.border_examples", border_examples)
        self.flip, self.eval_examples, self.border_examples = flip, eval_examples, border_examples
        images = image_set.load(setting.data, setting.data_dir)
        self.data: dict[str, dict[str, Tensor]] = {}
        for split, (x_NYXC, y_N) in images.splits.items():
            used = slice(0, train_examples if split == "train" else None)
            x = torch.from_numpy(np.array(x_NYXC[used])).to(setting.device)
            self.data[split] = {"x_BYXC": x, "y_B": torch.from_numpy(np.array(y_N[used])).to(setting.device)}
        first = self.data["train"]["x_BYXC"][:STANDARDISED].double().flatten(0, 2)
        side = min(self.data["train"]["x_BYXC"].shape[1:3])
        if statistics == "instance" and sides(side, strides)[-1] == 1:
            raise UserError(f"task.strides={list(strides)}: leaves one position of {side}, which instance statistics map to 0")
        self.make_model = partial(
            ConvNet,
            mean_C=first.mean(0).float(),
            std_C=first.std(0).clamp(min=1).float(),
            classes=len(images.classes),
            channels=tuple(channels),
            strides=tuple(strides),
            statistics=statistics,
            init_scale=init_scale,
        )

    def build(self, norm: Norm) -> nn.Module:
        return self.make_model(norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        return array_batches(self.data[split], batch_size, seed, epoch, share)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x_BYXC = batch["x_BYXC"]
        if self.flip and model.training and torch.is_grad_enabled():
            mirrored_B = torch.rand(len(x_BYXC)).to(x_BYXC.device) < 0.5
            x_BYXC = torch.where(mirrored_B[:, None, None, None], x_BYXC.flip(2), x_BYXC)
        return F.cross_entropy(model(x_BYXC), batch["y_B"])

    def evaluations(self) -> tuple[Evaluation, ...]:
        return (
            *(Evaluation(split, partial(self.evaluate, split=split)) for split in ("train", "valid", "test")),
            Evaluation("border", self.describe_border, when=("start", "end")),
        )

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """nll: mean negative log-likelihood in nats; error: share of wrong answers. The test set is always used whole."""
        images = self.first(split, None if split == "test" else self.eval_examples)
        scores = evaluate_classifier(model, images, "x_BYXC")
        return {"nll": scores.nll, "error": scores.wrong / scores.examples}

    def describe_border(self, model: nn.Module) -> dict[str, float]:
        """See `lnexp.tasks.convnet.border`; of the validation images, before training and of the best model."""
        assert isinstance(model, ConvNet)
        return border_statistics(model, self.first("valid", self.border_examples))

    def first(self, split: str, examples: int | None) -> Batches:
        """The first images of a split in batches; their order mixes the classes."""
        return array_batches({name: tensor[:examples] for name, tensor in self.data[split].items()}, EVALUATION_BATCH)
