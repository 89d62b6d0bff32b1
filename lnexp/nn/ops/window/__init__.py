"""An LSTM that reads a text through a soft window, which it moves itself (Graves 2013, section 5.1; paper section 6.5)."""

from __future__ import annotations

import os

from lnexp.nn.ops.autograd import outside_compiled_graphs, transformed, without_autocast
from lnexp.nn.ops.window.cpu import fits, fused
from lnexp.nn.ops.window.interface import Inputs, Output
from lnexp.nn.ops.window.reference import reference

__all__ = ["Inputs", "Output", "window_lstm"]


def window_lstm(inputs: Inputs) -> Output:
    """Run the layer: compiled for plain CPU tensors, else, and with LNEXP_FUSED=0, by `reference`. Differentiable to any order.

    Under autocast the types of the tensors are kept. Inside `torch.compile` it runs outside of the compiled graph.

    Raises:
        ValueError: a shape, type or value does not fit; an empty sequence or batch.
    """
    inputs.check()
    with without_autocast(inputs.x_TBD.device):
        wanted = os.environ.get("LNEXP_FUSED", "") in ("", "1") and not transformed(inputs.tensors)
        return fused(inputs) if wanted and fits(inputs) else reference(inputs)


outside_compiled_graphs(window_lstm, "the windowed LSTM of lnexp.nn runs outside of compiled graphs")
