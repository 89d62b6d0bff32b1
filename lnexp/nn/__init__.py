"""Normalisation, and recurrent layers with it, for your own models: usable without the rest of lnexp."""

from lnexp.nn.cells import GRUCell, LSTMCell, RNNCell
from lnexp.nn.norms import NORMS, BatchNorm, LayerNorm, Norm, RMSNorm, WeightNorm
from lnexp.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "GRU", "LSTM", "NORMS", "RNN", "BatchNorm", "GRUCell", "LSTMCell", "LayerNorm", "Norm", "RMSNorm", "RNNCell", "WeightNorm",
]  # fmt: skip
