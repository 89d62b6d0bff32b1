"""DRAW over all glimpses: two implementations behind one dispatch."""

from __future__ import annotations

from lnexp.nn.ops.autograd import without_autocast
from lnexp.nn.ops.draw import cpu
from lnexp.nn.ops.draw.interface import Inputs, Output
from lnexp.nn.ops.draw.reference import reference


def draw(inputs: Inputs) -> Output:
    """Read, encode, sample, decode and write, T times, from states and a canvas of zeros.

    - `cpu`: one compiled call in each direction, for plain CPU tensors of float32 or float64, norms none, ln and rms, images of
      28 x 28 pixels and windows of 2 x 2 and 5 x 5.
    - `reference`: plain torch; anything else, and if the environment variable LNEXP_FUSED is 0. Derivatives of order two and
      higher go through it, whichever ran forward.

    Autocast does not change the types of what is computed here.
    """
    with without_autocast(inputs.x_BD.device):
        return cpu.launch(inputs) if cpu.fits(inputs) else reference(inputs)
