"""What every implementation of DRAW takes and returns: a whole sequence of glimpses (Gregor et al. 2015; paper section 6.4).

Shapes: T glimpses, B batch, S side of an image, D = S * S pixels, H hidden, Z latents, P = 2 Z parameters of the posterior
(means, then logarithms of standard deviations), R side of the read window, W side of the write window, A = 10 + W * W numbers
of the attention: five of the write window, the patch that is written, five of the read window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from lnexp.nn.ops.recurrent.interface import Cell, Stats, Weights

FILTER = 5  # numbers that place a window: centre y, centre x, log delta, log sigma^2, log gamma


@dataclass(frozen=True)
class Windows:
    """Sides of the square images and of the two square windows, in pixels."""

    side: int = 28
    read: int = 2
    write: int = 5

    @property
    def seen(self) -> int:
        """Number of inputs that one glimpse reads: a window of the image, and one of what the canvas lacks."""
        return 2 * self.read**2

    @property
    def attention(self) -> int:
        """A."""
        return 2 * FILTER + self.write**2

    @property
    def write_filter(self) -> slice:
        """Where the numbers of the write window are among the A."""
        return slice(0, FILTER)

    @property
    def patch(self) -> slice:
        """Where the patch to be written is among the A."""
        return slice(FILTER, FILTER + self.write**2)

    @property
    def read_filter(self) -> slice:
        """Where the numbers of the read window are among the A."""
        return slice(FILTER + self.write**2, self.attention)


class Maps(NamedTuple):
    """The two linear maps of DRAW."""

    posterior_weight: Tensor  # [P, H] of the encoder's state
    posterior_bias: Tensor  # [P]
    attention_weight: Tensor  # [A, H] of the decoder's state
    attention_bias: Tensor  # [A]


class Inputs(NamedTuple):
    """The arguments of one run.

    Args:
        cell: of the encoder and of the decoder, of kind "lstm".
        encoder: parameters of an LSTM with 2 R R + H inputs: what is read, and the decoder's state.
        decoder: parameters of an LSTM with Z inputs.
        stats: norm "bn": the population statistics of encoder and decoder to evaluate with; None in training, where the batch's
            own are used.
    """

    cell: Cell
    windows: Windows
    encoder: Weights
    decoder: Weights
    maps: Maps
    x_BD: Tensor
    noise_TBZ: Tensor
    stats: tuple[Stats, Stats] | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All differentiable inputs, in this order: image, noise, encoder, decoder, maps."""
        return self.x_BD, self.noise_TBZ, *self.encoder, *self.decoder, *self.maps

    def with_tensors(self, *tensors: Any) -> Inputs:
        """The same run on other tensors, in the order of `tensors`."""
        n = len(Weights._fields)
        (x_BD, noise_TBZ), encoder, decoder, maps = (
            tensors[:2],
            tensors[2 : 2 + n],
            tensors[2 + n : 2 + 2 * n],
            tensors[2 + 2 * n :],
        )
        return self._replace(
            x_BD=x_BD, noise_TBZ=noise_TBZ, encoder=Weights(*encoder), decoder=Weights(*decoder), maps=Maps(*maps)
        )

    def without_tensors(self) -> Inputs:
        """The same run with no differentiable inputs yet, for `with_tensors`: it keeps none of them alive."""
        return self.with_tensors(*(None for _ in self.tensors))


class Output(NamedTuple):
    """The last canvas (logits of the pixels), the posterior of every glimpse, and the batch's statistics."""

    canvas_BD: Tensor
    posterior_TBP: Tensor
    stats: tuple[Stats, Stats] | None  # of encoder and decoder, detached; norm "bn" in training only
