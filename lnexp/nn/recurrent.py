"""RNN, LSTM and GRU layers with normalisation, called like torch's own. Placement is that of the paper's supplement.

    lstm = lnexp.nn.LSTM(300, 1024, num_layers=2, norm="ln", bidirectional=True)
    out, (h, c) = lstm(x)  # x [T, B, 300], or a PackedSequence; or, for padded sequences, lstm(x, lengths=[5, 3, 2])

N(.) is the norm without gain and bias. Arguments that the three share: `lnexp.nn.recurrent_base.Options`.
"""

from __future__ import annotations

from typing import Unpack

from lnexp.nn.norms import Norm
from lnexp.nn.recurrent_base import Options, Recurrent


class RNN(Recurrent):
    """h = f(gain_hh N(W_ih x + W_hh h) + bias_ih + bias_hh), f being `nonlinearity`: tanh or relu (equation 4)."""

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        norm: str | Norm = "ln",
        nonlinearity: str = "tanh",
        **options: Unpack[Options],
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={nonlinearity}: allowed are tanh, relu")
        super().__init__(input_size, hidden_size, num_layers, norm, {"nonlinearity": nonlinearity}, 0.0, **options)


class LSTM(Recurrent):
    """Equations (20)-(22); the cell is normalised where the output looks at it and carried on as it is.

    With ln or rms, a zero state and zero input are a trap: nothing but eps is left to divide by, twice a step, so that
    gradients grow some 10,000-fold for each such step at the start of a sequence and overflow float32 at about the tenth.
    `learned_state=True, state_std=0.1` avoids it.

    Args:
        forget_bias: added to bias_ih of the forget gate at the start.
        cell_only: the form for DRAW, equations (29)-(31): the gates are those of a plain LSTM, only the cell is normalised.
    """

    kind = "lstm"
    state_names = ("h0", "c0")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        norm: str | Norm = "ln",
        forget_bias: float = 0.0,
        cell_only: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, norm, {"cell_only": cell_only}, forget_bias, **options)


class GRU(Recurrent):
    """Equations (23)-(28) in torch's form: the reset gate comes after the recurrent matrix, and z is the paper's 1 - z."""

    kind = "gru"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, norm: str | Norm = "ln", **options: Unpack[Options]
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, norm, {}, 0.0, **options)
