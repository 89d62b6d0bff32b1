"""DRAW: a variational autoencoder that reads an image and writes a canvas through windows, glimpse after glimpse.

Gregor et al. 2015 (arXiv 1502.04623); the sizes of the windows and how they are placed are those of public code.

Shapes: T glimpses, B batch, D pixels, H hidden, Z latents, P = 2 Z, A numbers of the attention.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lnexp.nn import LSTMCell, Norm
from lnexp.nn.ops.draw import draw
from lnexp.nn.ops.draw.interface import Inputs, Maps, Windows
from lnexp.nn.ops.recurrent.interface import Stats

STARTS = ("wide", "uniform", "released")
RELEASED_STD = 0.01  # of all weights under start "released"
# Start "wide": added to the attention's biases, so that the windows cover the image and what is written is visible.
WIDE = {"log_sigma2": 1.0, "read_log_delta": -1.0, "write_log_gamma": -4.0}
DELTA, SIGMA2, GAMMA = 2, 3, 4  # places among the five numbers of a window


class Bound(NamedTuple):
    """The parts of the variational bound on -log p(x), in nats: bound_B = reconstruction_B + kl_TB.sum(0)."""

    reconstruction_B: Tensor  # -log p(x | z) with the sampled z
    kl_TB: Tensor  # KL(q(z_t | x, z_1 .. z_t-1) || N(0, I)), exact given the earlier samples


class DrawNet(nn.Module):
    """Encoder and decoder LSTM, the map to the posterior, and the map to the attention.

    Args:
        norm: of the LSTMs; weight normalisation acts on the two linear maps, too.
        windows: sides of image, read and write window.
        glimpses: T.
        latents: Z.
        hidden_size: H of both LSTMs.
        placement: where the norm stands in the LSTMs: "cell_only" (paper, equations 29-31), "all_gates" (equations 20-22), ...
        start: "wide": torch's uniform weights, windows that cover the image, and visible strokes (`WIDE`); "uniform": the same
            without these biases; "released": N(0, 0.01) weights and zero biases (public code).
    """

    def __init__(
        self, norm: Norm, *, windows: Windows, glimpses: int, latents: int, hidden_size: int, placement: str, start: str
    ) -> None:
        super().__init__()
        self.windows, self.glimpses, self.latents = windows, glimpses, latents
        options: Any = {"norm": norm, "placement": placement, "max_t": glimpses}
        self.encoder = LSTMCell(windows.seen + hidden_size, hidden_size, **options)
        self.decoder = LSTMCell(latents, hidden_size, **options)
        self.posterior = nn.Linear(hidden_size, 2 * latents)
        self.attention = nn.Linear(hidden_size, windows.attention)
        if start == "released":
            self._released_start()
        elif start == "wide":
            self._wide_start()
        for layer in (self.posterior, self.attention):
            norm.weight(layer)

    @torch.no_grad()
    def _released_start(self) -> None:
        for module in (self.encoder, self.decoder, self.posterior, self.attention):
            for name in ("weight_ih", "weight_hh", "weight"):
                if hasattr(module, name):
                    value = torch.randn(getattr(module, name).shape) * RELEASED_STD
                    if parametrize.is_parametrized(module, name):
                        setattr(module, name, value)
                    else:
                        module.get_parameter(name).copy_(value)
            for name, parameter in module.named_parameters():
                if name.startswith("bias"):
                    parameter.zero_()

    @torch.no_grad()
    def _wide_start(self) -> None:
        bias_A, windows = self.attention.bias, self.windows
        bias_A[windows.read_filter][SIGMA2] += WIDE["log_sigma2"]
        bias_A[windows.write_filter][SIGMA2] += WIDE["log_sigma2"]
        bias_A[windows.read_filter][DELTA] += WIDE["read_log_delta"]
        bias_A[windows.write_filter][GAMMA] += WIDE["write_log_gamma"]

    def noise(self, cases: int) -> Tensor:
        """Standard normal numbers [T, B, Z] from the global generator."""
        bias = self.attention.bias
        return torch.randn(self.glimpses, cases, self.latents, device=bias.device, dtype=bias.dtype)

    def inputs(self, x_BD: Tensor, noise_TBZ: Tensor) -> Inputs:
        """A run of the model, for `lnexp.nn.ops.draw`."""
        stats: tuple[Stats, Stats] | None = None
        encoder_steps, decoder_steps = self.encoder.batch_steps, self.decoder.batch_steps
        if encoder_steps is not None and decoder_steps is not None and not self.training:
            stats = encoder_steps.population(len(noise_TBZ)), decoder_steps.population(len(noise_TBZ))
        maps = Maps(self.posterior.weight, self.posterior.bias, self.attention.weight, self.attention.bias)
        cell, w_enc, w_dec = self.encoder.cell, self.encoder.weights(), self.decoder.weights()
        return Inputs(cell, self.windows, w_enc, w_dec, maps, x_BD, noise_TBZ, stats)

    def forward(self, x_BD: Tensor, noise_TBZ: Tensor) -> tuple[Tensor, Tensor]:
        """The last canvas (logits) [B, D] and the posteriors [T, B, P]. Under bn in training, statistics are updated."""
        canvas_BD, posterior_TBP, stats = draw(self.inputs(x_BD, noise_TBZ))
        if stats is not None:
            cases_T = torch.full((len(noise_TBZ),), len(x_BD))
            for cell, seen in zip((self.encoder, self.decoder), stats, strict=True):
                assert cell.batch_steps is not None
                cell.batch_steps.update(seen, cases_T)
        return canvas_BD, posterior_TBP

    def bound(self, x_BD: Tensor, noise_TBZ: Tensor) -> Bound:
        """The bound with one sample for each case."""
        return self.parts(x_BD, *self(x_BD, noise_TBZ))

    def parts(self, x_BD: Tensor, canvas_BD: Tensor, posterior_TBP: Tensor) -> Bound:
        """The bound of a canvas and its posteriors."""
        reconstruction_BD = F.binary_cross_entropy_with_logits(canvas_BD, x_BD, reduction="none")
        mean_TBZ, log_sigma_TBZ = posterior_TBP.chunk(2, dim=2)
        kl_TBZ = 0.5 * (mean_TBZ.square() + (2 * log_sigma_TBZ).exp() - 1) - log_sigma_TBZ
        return Bound(reconstruction_BD.sum(1), kl_TBZ.sum(2))

    def log_weight(self, x_BD: Tensor, noise_TBZ: Tensor) -> Tensor:
        """log p(x, z) - log q(z | x) of one sample z for each case [B], for importance weighting (Burda et al. 2015)."""
        canvas_BD, posterior_TBP = self(x_BD, noise_TBZ)
        reconstruction_B, _ = self.parts(x_BD, canvas_BD, posterior_TBP)
        mean_TBZ, log_sigma_TBZ = posterior_TBP.chunk(2, dim=2)
        z_TBZ = mean_TBZ + log_sigma_TBZ.exp() * noise_TBZ
        log_q_minus_p_TBZ = 0.5 * (z_TBZ.square() - noise_TBZ.square()) - log_sigma_TBZ
        return -reconstruction_B - log_q_minus_p_TBZ.sum((0, 2))
