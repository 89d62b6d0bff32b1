"""Handwriting: a network writes a text, point by point (paper section 6.5, Figure 5).

Shapes: T steps, B batch, N real (step, case) pairs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lnexp.data.batches import Batches
from lnexp.data.strokes import stroke_set
from lnexp.data.strokes.alphabet import encode
from lnexp.errors import check_choice, check_integer
from lnexp.nn import Norm
from lnexp.nn.ops.mixture_density import Mixture, mixture_density
from lnexp.nn.ops.recurrent.interface import PLACEMENTS
from lnexp.tasks.base import Batch, Curve, Evaluation, Setting, Share, Task
from lnexp.tasks.handwriting.model import HandwritingNet, real
from lnexp.tasks.handwriting.write import write

SAMPLE, BIASES = "layer normalization", [0.0, 0.0, 1.0, 1.0]  # what `samples` writes
EVALUATED = 64  # lines in a batch of an evaluation


class Handwriting(Task):
    """Prediction of the next point of a line of handwriting.

    Args:
        setting: data set and device.
        network: synthesis (paper): a window shows the text to write | prediction: without text.
        hidden_size: units of each LSTM (paper: 400).
        layers: number of LSTMs (paper: 3).
        windows: number of Gaussians of the window on the text (paper: 10).
        mixtures: number of bivariate Gaussians that predict a point (paper: 20).
        steps: points of a line that are read, from its beginning on (paper: 500).
        valid_lines: lines of the validation and of the test split that are evaluated in training, evenly spaced; null: all.
        placement: where the norm stands, see `lnexp.nn.recurrent_parameters.Options`.
    """

    name = "handwriting"
    revision = 1
    calibration = (10, 64)
    paper_data = ("iam_ondb",)
    curves = (
        Curve("valid/nll", "validation NLL (nats a sequence)", "lower", "Figure 5"),
        Curve("test/nll", "test NLL (nats a sequence)", "lower", "Figure 5"),
        Curve("test/squared_error", "test squared error of a point (variances)", "lower", "extension"),
    )
    differences = (
        "The paper trains on IAM-OnDB (data=iam_ondb), which its owners give out after registration. The desk runs learn "
        "lines that a program draws: Bible text in Hershey's single-stroke fonts with random slant, size, wave and jitter. "
        "Their levels cannot be compared with the paper's, only the norms with one another.",
        "At desk scale two layers of 100 units read the first 200 points of a line for 8,000 updates; the paper: three of "
        "400, 500 points, some 190,000 updates. fig5_iam has three of 200, 500 points and 5,000 updates.",
        "The paper does not say which lines it trains and tests on. Here training is on trainset.txt, validation on "
        "testset_v.txt, the test on testset_f.txt. Graves trained on testset_t.txt and testset_f.txt, too, and stopped on "
        "testset_v.txt, where his numbers were measured: so does `graves`, at the end, after less training data.",
        "Of a line the first points are taken, 500 at most; the paper does not say how lines of about 630 points became "
        "sequences of 500. Shorter lines count with what they have.",
        "Offsets of more than 1,000 sensor units are cut (0.01 % of them); Graves removed such steps, and interpolated "
        "missing readings.",
        "The paper does not give the learning rate: grids are in fig5_rates and fig5_iam_rates. The loss is the mean over all "
        "points of a batch, and gradients are clipped to a total norm of 10, not unit by unit (Graves 2013, section 4.2).",
        "There are no peephole connections, as in the paper's equations; Graves' LSTM has them. All biases of the LSTMs start "
        "at 0.",
        "The first input is (0, 0, 1), a lifted pen, not zeros: layer normalisation would divide zeros by the root of eps.",
        "The window starts at the mean pace of the training lines, with the sum of its alpha at 1, under every norm.",
        "The log standard deviation of a point is at least -5 (of standardised offsets) and |atanh rho| at most 4, so that no "
        "density grows without bound.",
        "Which 57 symbols the paper has is not said. Here they are space, full stop, comma, apostrophe, 52 letters, and one "
        "for all others.",
        "During training some lines of validation and test are evaluated (task.valid_lines); `final` and `graves` read all, "
        "on the best weights.",
    )

    def __init__(
        self,
        setting: Setting,
        *,
        network: str,
        hidden_size: int,
        layers: int,
        windows: int,
        mixtures: int,
        steps: int,
        valid_lines: int | None,
        placement: str,
    ) -> None:
        check_choice("task.network", network, ("synthesis", "prediction"))
        check_choice("task.placement", placement, PLACEMENTS["lstm"])
        for key, value in (("hidden_size", hidden_size), ("layers", layers), ("windows", windows), ("mixtures", mixtures)):
            check_integer(f"task.{key}", value)
        check_integer("task.hidden_size", hidden_size, least=2)
        check_integer("task.steps", steps)
        check_integer("task.valid_lines", valid_lines, optional=True)
        self.device, self.steps, self.valid_lines = setting.device, steps, valid_lines
        self.set = stroke_set.load(setting.data, setting.data_dir)
        self.make_model = partial(
            HandwritingNet,
            text=network == "synthesis",
            hidden_size=hidden_size,
            layers=layers,
            windows=windows,
            mixtures=mixtures,
            steps=steps,
            pace=1 / self.set.points_per_symbol(),
            placement=placement,
        )

    def build(self, norm: Norm) -> nn.Module:
        return self.make_model(norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        return stroke_set.stroke_batches(self.set, split, batch_size, self.steps, seed, epoch, share, self.device)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean nats a step. Parts: position and end, its two terms; nll, nats a sequence, the unit of Figure 5."""
        assert isinstance(model, HandwritingNet)
        nll_N2 = model.nll(batch)
        loss = nll_N2.sum() / len(nll_N2)
        position, end = nll_N2.detach().mean(0)
        return loss, {"nll": loss.detach() * (len(nll_N2) / len(batch["lengths_B"])), "position": position, "end": end}

    def evaluations(self) -> tuple[Evaluation, ...]:
        some = self.valid_lines
        found = (
            Evaluation("valid", partial(self.evaluate, split="valid", most=some)),
            Evaluation("test", partial(self.evaluate, split="test", most=some)),
            Evaluation("final", partial(self.evaluate, split="test"), when=("end",)),
        )
        if self.set.name != "iam_ondb":
            return found
        return *found, Evaluation("graves", partial(self.evaluate, split="valid"), when=("end",))  # testset_v

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str, most: int | None = None) -> dict[str, float]:
        """nll: negative log-likelihood in nats a sequence of at most `task.steps` points, the unit of Figure 5. nll_per_step:
        in nats a step. squared_error: mean of (dx - E[dx])^2 + (dy - E[dy])^2 over all points, with the mixture's mean as E, in
        units in which dx and dy have variance 1 (Graves' second number).
        """
        assert isinstance(model, HandwritingNet)
        args = (self.set, split, EVALUATED, self.steps)
        batches = stroke_set.stroke_batches(*args, device=self.device, most=most)
        nll, squares, steps, lines = 0.0, 0.0, 0, 0
        for k in range(len(batches)):
            batch = batches[k]
            y_NP, target_N3 = model(batch), batch["target_TB3"][real(batch)]
            nll += mixture_density(y_NP, target_N3).double().sum().item()
            squares += Mixture(y_NP).squared_error(target_N3).double().sum().item()
            steps, lines = steps + len(y_NP), lines + len(batch["lengths_B"])
        return {"nll": nll / lines, "nll_per_step": nll / steps, "squared_error": squares / steps}

    def samples(self, model: nn.Module, folder: Path) -> None:
        """samples.png and samples.svg: unbiased and biased samples of a text; alignment.png: the window of the last one."""
        from lnexp.tasks.handwriting import pictures

        assert isinstance(model, HandwritingNet)
        found = write(model.cpu(), encode(SAMPLE), BIASES, self.set.points_per_symbol())
        model.to(self.device)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [pictures.ink(sample, self.set.mean_2, self.set.std_2) for sample in found]
        titles = [f"bias {bias:g}" + ", broken off" * (not sample.ended) for bias, sample in zip(BIASES, found, strict=True)]
        pictures.sheet(rows, titles).savefig(folder / "samples.png", metadata={"Software": None})
        (folder / "samples.svg").write_text(pictures.svg(rows))
        if model.window is not None:
            pictures.alignment(found[-1]).savefig(folder / "alignment.png", metadata={"Software": None})
