"""Permuted MNIST: a recurrent net reads the pixels of a digit in a fixed random order (Cooijmans et al. 2016, section 5.1).

Not an experiment of the paper: it compares the plain, the batch-normalised and the layer-normalised LSTM.

Shapes: T pixels, S steps, K digits of a sequence, B batch, H hidden, C classes (or pixels of a step).
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data import mnist
from lnexp.data.batches import Batches, array_batches
from lnexp.errors import UserError, check_choice, check_integer, check_number
from lnexp.nn import Norm
from lnexp.seeding import fold
from lnexp.tasks.base import Batch, Curve, Evaluation, Setting, Share, Task
from lnexp.tasks.classification import evaluate_classifier
from lnexp.tasks.recurrent import check_recurrent, recurrent

CLASSES, SIDE = 10, 28


class PermutedMNIST(Task):
    """Classification of digits from sequences of one pixel a step.

    Args:
        setting: data set and device.
        cell: lstm | gru | rnn.
        hidden_size: number of units (Cooijmans et al.: 100).
        order: permuted (one random order for all digits and runs) | scan (row by row).
        permutation: without_replacement, a true permutation | with_replacement, as their released code draws it: about 37 % of
            the pixels then never occur.
        pool: side of the squares of pixels that are averaged into one step (1: 784 steps, 2: 196).
        input_std: standard deviation of the initial input weights.
        bias_in_std: standard deviation of the initial bias inside the norm of the input term (not none, wn, bn).
        state_std: standard deviation of the learned initial states at the start.
        state_noise: standard deviation of the noise that is added to the initial hidden state in training; without it batch
            normalisation divides by 0 at the first step.
        forget_bias: initial forget bias of the LSTM.
        valid_examples: number of validation digits used, from the first on; None: all 10,000.
        placement: where the norm stands, see `lnexp.tasks.recurrent`.
        chunk: number of pixels that one step reads.
        init_scale: the initial weight matrices of the recurrent layer are multiplied by it, and the bias inside the norm.
        digits: number of digits that a training sequence consists of, each of which is to be classified at its last pixel.
        longer: at the end also sequences of 2, 4, ... times as many test digits, up to this factor, are read.
    """

    name = "permuted_mnist"
    revision = 1
    later_knobs: ClassVar = {"placement": "bias_inside", "chunk": 1, "init_scale": 1.0, "digits": 1, "longer": 1}
    calibration = (2, 1000)
    curves = (
        Curve("valid/accuracy", "validation accuracy", "higher", "extension"),
        Curve("valid/nll", "validation NLL (nats)", "lower", "extension"),
        Curve("test/accuracy", "test accuracy of the best model", "higher", "extension"),
    )
    differences = (
        "The paper does not report this task; its settings are those of Cooijmans et al. (arXiv 1603.09025), section 5.1, "
        "and of their released code.",
        "At desk scale digits are averaged over 2 x 2 pixels (196 steps instead of 784), Adam at 4e-3 takes the place of "
        "RMSProp at 1e-3, and runs end after 2 epochs or 4,000 updates instead of 200 epochs.",
        "The learning rate is one for all norms; 4e-3 was the best of a coarse grid for the plain and the layer-normalised "
        "LSTM, and lay at the grid's edge. The grid was run on seeds 0 to 2, which are among those that decide; batch "
        "normalisation was not tuned. permuted_mnist_rates has a wider grid for all three on other seeds.",
        "In the studies (where_, rms_, rate_width_, which_norm_, batch_size_, initial_scale_, longer_digits) a step reads 7 of "
        "the 196 pixels, 28 steps a digit, and W_x starts with a standard deviation of 3.",
        "The order is a true permutation; the released code draws 784 positions with replacement "
        "(task.permutation=with_replacement). The published 90.2 and 95.4 % may belong to that easier or harder task.",
        "A single pixel is the input: normalising W x alone would leave little but its sign. So layer normalisation keeps the "
        "linear bias inside its input term, as the authors' code does, drawn with a standard deviation of a thirtieth of W's.",
        "All norms get a learned initial state and the noise on it that batch normalisation needs; recurrent matrices are "
        "orthogonal gate by gate, where the released code starts one gate at the identity.",
        "Batch normalisation evaluates with statistics estimated anew over 2,000 training digits, step by step, instead of "
        "running averages.",
    )

    def __init__(
        self,
        setting: Setting,
        *,
        cell: str,
        hidden_size: int,
        order: str,
        permutation: str,
        pool: int,
        input_std: float,
        bias_in_std: float,
        state_std: float,
        state_noise: float,
        forget_bias: float,
        valid_examples: int | None,
        placement: str = "bias_inside",
        chunk: int = 1,
        init_scale: float = 1.0,
        digits: int = 1,
        longer: int = 1,
    ) -> None:
        check_recurrent(cell, placement)
        check_choice("task.order", order, ("permuted", "scan"))
        check_choice("task.permutation", permutation, ("without_replacement", "with_replacement"))
        check_integer("task.hidden_size", hidden_size)
        check_integer("task.pool", pool)
        check_integer("task.valid_examples", valid_examples, optional=True)
        for key, number in {"chunk": chunk, "digits": digits, "longer": longer}.items():
            check_integer(f"task.{key}", number)
        check_number("task.init_scale", init_scale, above=0)
        if SIDE % pool:
            raise UserError(f"task.pool={pool}: must divide {SIDE}")
        pixels = (SIDE // pool) ** 2
        if pixels % chunk:
            raise UserError(f"task.chunk={chunk}: must divide the number of pixels, {pixels}")
        self.digits, self.longer = digits, longer
        self.make_model = partial(
            PixelReader,
            cell=cell,
            placement=placement,
            hidden_size=hidden_size,
            steps=pixels // chunk * digits,
            chunk=chunk,
            init_scale=init_scale,
            input_std=input_std,
            bias_in_std=bias_in_std,
            state_std=state_std,
            state_noise=state_noise,
            forget_bias=forget_bias,
        )
        pixels_T = pixel_order(pixels, order, permutation)
        self.data: dict[str, dict[str, Tensor]] = {}
        sets = mnist.load(setting.data, setting.data_dir, held_out=6)  # 50,000 and 10,000, as Cooijmans et al.
        for split, (x, y) in sets.items():
            used = slice(0, valid_examples if split == "valid" else None)
            x_BT = torch.from_numpy(pooled(x[used], pool)[:, pixels_T]).to(setting.device)
            self.data[split] = {"x_BT": x_BT, "y_B": torch.from_numpy(y[used].astype("int64")).to(setting.device)}

    def build(self, norm: Norm) -> nn.Module:
        return self.make_model(norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        return array_batches(self.data[split], batch_size, seed, epoch, share)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy of all digits of a sequence. It goes on from a digit of the batch to the next ones."""
        if self.digits == 1:
            return F.cross_entropy(model(batch["x_BT"]), batch["y_B"])
        logits_KBC = model(in_a_row(batch["x_BT"], self.digits), digits=self.digits)
        return F.cross_entropy(logits_KBC.flatten(0, 1), torch.cat([batch["y_B"].roll(-k) for k in range(self.digits)]))

    def evaluations(self) -> tuple[Evaluation, ...]:
        return (
            Evaluation("valid", partial(self.evaluate, split="valid")),
            Evaluation("test", partial(self.evaluate, split="test"), when=("end",)),
            *([Evaluation("longer", self.evaluate_longer, when=("end",))] if self.longer > 1 else []),
        )

    def evaluate_longer(self, model: nn.Module) -> dict[str, float]:
        """accuracy_<n>, n = 1, 2, 4, ...: share of correct last digits in sequences n times as long as in training."""
        factors = [2**k for k in range(self.longer.bit_length())]
        return {f"accuracy_{n}": self.last_digit(model, "test", n * self.digits)["accuracy"] for n in factors}

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """nll: mean negative log-likelihood in nats; accuracy: share of correct digits; of the last digits of sequences."""
        return self.last_digit(model, split, self.digits)

    def last_digit(self, model: nn.Module, split: str, digits: int) -> dict[str, float]:
        """`evaluate` on sequences of that many digits; each digit is the last one of one sequence."""

        def read(x_BT: Tensor) -> Tensor:
            return model(in_a_row(x_BT, digits)).roll(digits - 1, 0)

        scores = evaluate_classifier(read, self.batches(split, batch_size=500), "x_BT")  # type: ignore[arg-type]
        return {"nll": scores.nll, "accuracy": (scores.examples - scores.wrong) / scores.examples}


class PixelReader(nn.Module):
    """x_BT -> logits [B, 10]: one recurrent layer, and a linear layer on its last hidden state.

    Args: see `PermutedMNIST`; steps: number of steps S of a training sequence.
    """

    def __init__(
        self,
        norm: Norm,
        *,
        cell: str,
        placement: str,
        hidden_size: int,
        steps: int,
        chunk: int,
        init_scale: float,
        input_std: float,
        bias_in_std: float,
        state_std: float,
        state_noise: float,
        forget_bias: float,
    ) -> None:
        super().__init__()
        self.rnn = recurrent(cell, placement, chunk, hidden_size, norm, max_t=steps)
        self.states = nn.ParameterList(torch.empty(hidden_size) for _ in self.rnn.state_names)
        self.output = nn.utils.skip_init(nn.Linear, hidden_size, CLASSES)
        self.state_noise, self.chunk = state_noise, chunk

        weight_GH = torch.empty(self.rnn.weight_hh_l0.shape)
        for gate_HH in weight_GH.split(hidden_size):
            nn.init.orthogonal_(gate_HH)
        self.rnn.assign("weight_hh_l0", weight_GH * init_scale)
        self.rnn.assign("weight_ih_l0", torch.randn(len(weight_GH), chunk) * (input_std * init_scale))
        for state in self.states:
            nn.init.normal_(state, std=state_std)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        with torch.no_grad():  # equal under every norm: all biases 0 except the forget gate's
            self.rnn.bias_ih_l0.zero_()
            self.rnn.bias_hh_l0.zero_()
            if cell == "lstm":
                self.rnn.bias_ih_l0[hidden_size : 2 * hidden_size] = forget_bias
        if getattr(self.rnn, "bias_in_l0", None) is not None:
            nn.init.normal_(self.rnn.bias_in_l0, std=bias_in_std * init_scale)

    def forward(self, x_BT: Tensor, digits: int = 0) -> Tensor:
        """The logits [B, C] of the last digit; with `digits`, [K, B, C] of so many digits of equal length."""
        start_1BH = [state.expand(1, len(x_BT), -1) for state in self.states]
        if self.training and self.state_noise:
            start_1BH[0] = start_1BH[0] + self.state_noise * torch.randn_like(start_1BH[0])
        x_SBC = x_BT.unflatten(1, (-1, self.chunk)).transpose(0, 1)
        out_SBH, _ = self.rnn(x_SBC, tuple(start_1BH) if len(start_1BH) > 1 else start_1BH[0])
        every = len(out_SBH) // (digits or 1)
        return self.output(out_SBH[every - 1 :: every]) if digits else self.output(out_SBH[-1])


def in_a_row(x_BT: Tensor, digits: int) -> Tensor:
    """Sequences [B, digits T]: sequence b is made of the cases b, b + 1, ... of the batch, and after its last case the first."""
    return x_BT if digits == 1 else torch.cat([x_BT.roll(-k, 0) for k in range(digits)], dim=1)


def pixel_order(steps: int, order: str, permutation: str) -> np.ndarray:
    """The pixel index of each step, the same in every run."""
    if order == "scan":
        return np.arange(steps)
    random = np.random.default_rng(fold(0, "pixels", steps, permutation))
    return random.permutation(steps) if permutation == "without_replacement" else random.integers(0, steps, steps)


def pooled(x: np.ndarray, pool: int) -> np.ndarray:
    """Bytes [n, 784] -> float32 [n, 784 / pool^2] in [0, 1], each the mean of a square of pool x pool pixels."""
    side = SIDE // pool
    squares = x.reshape(len(x), side, pool, side, pool).astype(np.float32)
    return squares.mean(axis=(2, 4)).reshape(len(x), -1) / 255
