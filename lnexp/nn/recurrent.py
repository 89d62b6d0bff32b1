"""RNN, LSTM and GRU layers with normalisation, called like torch's own.

    lstm = lnexp.nn.LSTM(300, 1024, num_layers=2, bidirectional=True, norm="ln")
    out, (h, c) = lstm(x)  # x [T, B, 300], or a PackedSequence; or, for padded sequences, lstm(x, lengths=[5, 3, 2])

Positional arguments are torch's, in torch's order. Keyword arguments beyond them: `lnexp.nn.recurrent_base.Options`. N(.) is the
norm without gain and bias.
"""

from __future__ import annotations

from typing import Any, Unpack

import torch

from lnexp.nn.recurrent_base import Options, Recurrent


class RNN(Recurrent):
    """h = f(gain_hh N(W_ih x + W_hh h) + bias_ih + bias_hh) with f = `nonlinearity`, tanh or relu (equation 4).

    Zero pre-activations under ln and rms: if W_ih x + W_hh h = 0 (zero input and zero state, as in padding at the start), the
    norm divides by sqrt(eps), and each such step multiplies gradients by up to 1 / sqrt(eps) = 300: float32 overflows after some
    15 steps, and gradients become NaN. Remedies: pass `lengths` (padding is then skipped, also in the reverse direction), or
    `learned_state=True, state_std=0.1`; a larger eps, `norm=LayerNorm(eps=0.1)`, slows the growth down.

    Raises:
        ValueError: an argument out of range; hidden_size=1 under ln, whose output would be constant.
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[Options],
    ) -> None:
        rest = (bias, batch_first, dropout, bidirectional, device, dtype)
        super().__init__(input_size, hidden_size, num_layers, *rest, 0, nonlinearity, **options)
        self.nonlinearity = nonlinearity


class LSTM(Recurrent):
    """Equations (20)-(22): c = f * c + i * g and h = o * tanh(gain_c N(c) + bias_c); the next step gets c unnormalised.

    Zero pre-activations under ln and rms: from zero states, a zero input leaves only eps to divide by, in the gates and in the
    cell, so that each such step at the start of a sequence (left padding, or right padding in the reverse direction) multiplies
    gradients by about 1 / (8 eps) = 10,000: float32 overflows after some ten steps, and gradients become NaN. Remedies: pass
    `lengths` (padding is then skipped, also in the reverse direction), `learned_state=True, state_std=0.1`, or
    `placement="cell_only"` (its gates have biases that are not 0); a larger eps, `norm=LayerNorm(eps=0.1)`, slows growth down.

    Args:
        proj_size: P > 0: h = W_hr (o * tanh(gain_c N(c) + bias_c)) has P features, as in torch. The norm stays in front of the
            projection; nothing normalises h itself. Runs without compiled kernels.
        forget_bias: added to bias_ih of the forget gate at the start.

    Raises:
        ValueError: an argument out of range; hidden_size=1 under ln, whose output would be constant.
    """

    kind = "lstm"
    state_names = ("h0", "c0")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        forget_bias: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        rest = (bias, batch_first, dropout, bidirectional, device, dtype)
        super().__init__(input_size, hidden_size, num_layers, *rest, proj_size, "tanh", forget_bias, **options)


class GRU(Recurrent):
    """Equations (23)-(28) in torch's form: the reset gate is applied after the recurrent matrix, and z is the paper's 1 - z.

    Zero pre-activations under ln and rms: if W_ih x = 0 or W_hh h = 0 (zero input, zero state), the norm of that term divides by
    sqrt(eps), and each step that stays there multiplies gradients by up to 1 / sqrt(eps) = 300 times the weights: float32
    overflows after some 20 steps, and gradients become NaN. Remedies: pass `lengths` (padding is then skipped, also in the
    reverse direction), or `learned_state=True, state_std=0.1`; a larger eps, `norm=LayerNorm(eps=0.1)`, slows the growth down.

    Raises:
        ValueError: an argument out of range; hidden_size=1 under ln, whose candidate state would be constant.
    """

    kind = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[Options],
    ) -> None:
        rest = (bias, batch_first, dropout, bidirectional, device, dtype)
        super().__init__(input_size, hidden_size, num_layers, *rest, **options)
