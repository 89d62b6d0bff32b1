"""DRAW as equations: the oracle of the compiled form. Differentiable to any order.

    r_t = read(x, x - sigmoid(canvas), h_dec);  h_enc = LSTM_enc([r_t, h_dec]);  z_t ~ N(mu, sigma) from h_enc
    h_dec = LSTM_dec(z_t);  canvas += write(h_dec)

Shapes: those of `interface`; N side of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lnexp.nn.ops.draw.interface import Inputs, Output, Windows
from lnexp.nn.ops.recurrent.interface import Cell, Stats, Weights
from lnexp.nn.ops.recurrent.reference import Normalisation, linear, lstm_step


class Glimpse(NamedTuple):
    """What one glimpse leaves behind."""

    canvas_BD: Tensor  # after writing
    attention_BA: Tensor  # before reading: where the read window is; None of it is used when images are generated
    written_BA: Tensor  # of the same glimpse's write window
    posterior_BP: Tensor


class Recurrence:
    """One LSTM and its state, which starts at 0."""

    def __init__(self, cell: Cell, w: Weights, stats: Stats | None, like_BZ: Tensor) -> None:
        self.cell, self.w, self.norm, self.t = cell, w, Normalisation(cell, w, stats), 0
        self.h_BH = self.c_BH = like_BZ.new_zeros(len(like_BZ), w.weight_hh.shape[1])
        self.real_B1 = torch.ones(len(like_BZ), 1, dtype=torch.bool, device=like_BZ.device)

    def __call__(self, x_BI: Tensor) -> Tensor:
        self.norm.enter(self.t, self.real_B1)
        self.h_BH, self.c_BH = lstm_step(self.cell, self.w, self.norm, x_BI, self.h_BH, self.c_BH)
        self.t += 1
        return self.h_BH


def reference(inputs: Inputs) -> Output:
    """All glimpses."""
    encoder, decoder, steps = glimpses(inputs)
    every = list(steps)
    stats = encoder.norm.batch_stats(), decoder.norm.batch_stats()
    both = None if stats[0] is None or stats[1] is None else (stats[0], stats[1])
    return Output(every[-1].canvas_BD, torch.stack([glimpse.posterior_BP for glimpse in every]), both)


def plain_function(inputs: Inputs) -> Callable[..., tuple[Tensor, ...]]:
    """Canvas and posteriors as a function of `inputs.tensors`, for `lnexp.nn.ops.autograd.vjp`. Holds none of them."""
    run = inputs.without_tensors()
    return lambda *tensors: reference(run.with_tensors(*tensors))[:2]


def glimpses(inputs: Inputs) -> tuple[Recurrence, Recurrence, Iterator[Glimpse]]:
    """Encoder, decoder, and the glimpses one after the other."""
    cell, windows, w_enc, w_dec, maps, x_BD, noise_TBZ, stats = inputs
    of_encoder, of_decoder = stats or (None, None)
    encoder = Recurrence(cell, w_enc, of_encoder, noise_TBZ[0])
    decoder = Recurrence(cell, w_dec, of_decoder, noise_TBZ[0])

    def run() -> Iterator[Glimpse]:
        canvas_BD = torch.zeros_like(x_BD)
        attention_BA = linear(decoder.h_BH, maps.attention_weight, maps.attention_bias)
        for noise_BZ in noise_TBZ:
            seen_BI = read(windows, attention_BA, x_BD, x_BD - canvas_BD.sigmoid())
            h_enc_BH = encoder(torch.cat([seen_BI, decoder.h_BH], dim=1))
            posterior_BP = linear(h_enc_BH, maps.posterior_weight, maps.posterior_bias)
            mean_BZ, log_sigma_BZ = posterior_BP.chunk(2, dim=1)
            h_dec_BH = decoder(mean_BZ + log_sigma_BZ.exp() * noise_BZ)
            written_BA = linear(h_dec_BH, maps.attention_weight, maps.attention_bias)
            canvas_BD = canvas_BD + write(windows, written_BA)
            yield Glimpse(canvas_BD, attention_BA, written_BA, posterior_BP)
            attention_BA = written_BA

    return encoder, decoder, run()


def generated(inputs: Inputs) -> Iterator[Glimpse]:
    """Images from the prior: the decoder alone, with the noise as z."""
    decoder = Recurrence(inputs.cell, inputs.decoder, inputs.stats[1] if inputs.stats else None, inputs.noise_TBZ[0])
    canvas_BD = torch.zeros_like(inputs.x_BD)
    for noise_BZ in inputs.noise_TBZ:
        written_BA = linear(decoder(noise_BZ), inputs.maps.attention_weight, inputs.maps.attention_bias)
        canvas_BD = canvas_BD + write(inputs.windows, written_BA)
        yield Glimpse(canvas_BD, written_BA, written_BA, torch.cat([torch.zeros_like(noise_BZ)] * 2, dim=1))


def read(windows: Windows, attention_BA: Tensor, x_BD: Tensor, rest_BD: Tensor) -> Tensor:
    """gamma F_y [image] F_x^T of the image and of what the canvas lacks of it, [B, 2 R R]."""
    fy_BNS, fx_BNS, gamma_B1 = filters(attention_BA[:, windows.read_filter], windows.read, windows.side)
    both = torch.stack([x_BD, rest_BD], dim=1).unflatten(2, (windows.side, windows.side))
    return gamma_B1 * (fy_BNS[:, None] @ both @ fx_BNS[:, None].mT).flatten(1)


def write(windows: Windows, attention_BA: Tensor) -> Tensor:
    """1 / gamma F_y^T [patch] F_x, [B, D]."""
    fy_BNS, fx_BNS, gamma_B1 = filters(attention_BA[:, windows.write_filter], windows.write, windows.side)
    patch_BNN = attention_BA[:, windows.patch].unflatten(1, (windows.write, windows.write))
    return (fy_BNS.mT @ patch_BNN @ fx_BNS).flatten(1) / gamma_B1


def filters(numbers: Tensor, n: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """F_y and F_x, N Gaussians over the pixels of one axis each, and gamma.

    The centres are (v + 1) / 2 * S, their distance is (S - 1) / (N - 1) delta, and each Gaussian is divided by its sum + 1e-4
    (public code).

    Args:
        numbers: [B, 5] centre y, centre x, log delta, log sigma^2, log gamma.
    """
    centre_B21, pixel_S = (numbers[:, :2, None] + 1) / 2 * side, torch.arange(side).to(numbers)
    offset_N = (torch.arange(n).to(numbers) - n / 2 + 0.5) * ((side - 1) / max(1, n - 1))
    mean_B2N = centre_B21 + numbers[:, 2, None, None].exp() * offset_N
    half_precision_B = 0.5 * (-numbers[:, 3, None, None, None]).exp()
    f_B2NS = (-((pixel_S - mean_B2N[..., None]).square()) * half_precision_B).exp()
    f_B2NS = f_B2NS / (f_B2NS.sum(dim=3, keepdim=True) + 1e-4)
    return f_B2NS[:, 0], f_B2NS[:, 1], numbers[:, 4, None].exp()
