"""Normalisation, recurrent layers and cells with it, and two losses, for your own models: usable without the rest of lnexp."""

from lnexp.nn.cells import GRUCell, LSTMCell, RNNCell
from lnexp.nn.norm_base import Norm, NormError
from lnexp.nn.norms import (
    NORMS,
    BatchNorm,
    DynamicTanh,
    GroupNorm,
    LayerNorm,
    NoNorm,
    RMSNorm,
    SimpleLayerNorm,
    WeightNorm,
)
from lnexp.nn.ops.cross_entropy import linear_cross_entropy
from lnexp.nn.ops.order_violations import order_violations
from lnexp.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "GRU", "LSTM", "NORMS", "RNN", "BatchNorm", "DynamicTanh", "GRUCell", "GroupNorm", "LSTMCell", "LayerNorm", "NoNorm", "Norm",
    "NormError", "RMSNorm", "RNNCell", "SimpleLayerNorm", "WeightNorm", "linear_cross_entropy", "order_violations",
]  # fmt: skip
