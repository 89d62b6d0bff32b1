"""The handwriting networks of Graves (arXiv 1308.0850, sections 4 and 5; paper section 6.5).

Shapes: T steps, B batch, C symbols, H hidden, L layers, K Gaussians of the window, N real (step, case) pairs, P = 6M + 1 outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lnexp.data.strokes.alphabet import SYMBOLS
from lnexp.nn import LSTM, Norm
from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.ops.mixture_density import mixture_density
from lnexp.nn.ops.window import Inputs, window_lstm
from lnexp.tasks.base import Batch

POINT = 3  # dx, dy, end of stroke


class HandwritingNet(nn.Module):
    """A stack of LSTMs with skip connections: the inputs go to all layers, all layers to the output.

    With text, the first layer moves a window over it; the window at step t goes to the layers above at t, and to the first at
    t + 1. The norm stands in the LSTMs (paper, equations 20-22); window and output are linear in h.

    Args:
        norm: of the LSTMs.
        text: the synthesis network; False: the prediction network, which reads no text.
        hidden_size: units of each layer.
        layers: number of layers.
        windows: number of Gaussians of the window.
        mixtures: number of bivariate Gaussians of the output.
        steps: largest number of steps with batch statistics of their own.
        pace: symbols a step by which the window moves at the start.
        placement: where the norm stands, see `lnexp.nn.recurrent_parameters.Options`.
    """

    def __init__(
        self,
        norm: Norm,
        *,
        text: bool,
        hidden_size: int,
        layers: int,
        windows: int,
        mixtures: int,
        steps: int,
        pace: float,
        placement: str,
    ) -> None:
        super().__init__()
        inputs = POINT + (SYMBOLS if text else 0)
        self.rnn = nn.ModuleList(
            LSTM(inputs + (hidden_size if n else 0), hidden_size, norm=norm, placement=placement, max_t=steps)
            for n in range(layers)
        )
        for name, parameter in self.rnn.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)  # equal under every norm
        self.output = nn.Linear(hidden_size * layers, 6 * mixtures + 1)
        self.window = nn.Linear(hidden_size, 3 * windows) if text else None
        if self.window is not None:
            start = torch.tensor([-math.log(windows), 0.0, math.log(pace)])  # sum of alpha 1, beta 1
            with torch.no_grad():
                self.window.bias.copy_(start.repeat_interleave(windows))

    def forward(self, batch: Batch) -> Tensor:
        """The outputs y_NP at the real steps, in the order of `real(batch)`."""
        x_TBI, lengths_B, outs = batch["x_TB3"], batch["lengths_B"], []
        if self.window is not None:
            h_TBH, w_TBC = self.read(batch)
            x_TBI, outs = torch.cat([x_TBI, w_TBC], dim=2), [h_TBH]
        for layer in list(self.rnn)[len(outs) :]:
            outs.append(layer(torch.cat([x_TBI, *outs[-1:]], dim=2), lengths=lengths_B)[0])
        return self.output(torch.cat(outs, dim=2)[real(batch)])

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first layer with its window: hidden states [T, B, H] and windows [T, B, C]."""
        first, window, x_TB3, lengths_B = self.rnn[0], self.window, batch["x_TB3"], batch["lengths_B"]
        assert isinstance(first, LSTM) and window is not None
        steps, cases, _ = x_TB3.shape
        records = None if first.batch_steps is None else first.batch_steps.get_submodule("l0")
        stats = None
        if isinstance(records, BatchSteps):
            if self.training:
                first.norm.check_batch(cases)
            else:
                stats = records.population(steps)
        text = batch["codes_BU"], batch["characters_B"], lengths_B
        out = window_lstm(Inputs(first.cell, first.weights("l0"), x_TB3, window.weight, window.bias, *text, SYMBOLS, stats))
        if isinstance(records, BatchSteps) and out.stats is not None:
            records.update(out.stats, (torch.arange(steps)[:, None] < lengths_B).sum(dim=1))
        return out.h_TBH, out.w_TBC

    def nll(self, batch: Batch) -> Tensor:
        """Negative log-likelihood in nats at the real steps, [N, 2]: of the position and of the end of stroke."""
        return mixture_density(self(batch), batch["target_TB3"][real(batch)])


def real(batch: Batch) -> Tensor:
    """Whether each (step, case) is a point and not padding, bool [T, B], on the device of the points."""
    x_TB3 = batch["x_TB3"]
    return (torch.arange(len(x_TB3), device="cpu")[:, None] < batch["lengths_B"]).to(x_TB3.device)
