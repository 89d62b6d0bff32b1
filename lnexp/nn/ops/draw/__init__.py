"""DRAW over all glimpses, by the fastest implementation that can."""

from __future__ import annotations

import torch

from lnexp.nn.ops.draw.interface import Inputs, Output
from lnexp.nn.ops.draw.reference import reference


def draw(inputs: Inputs) -> Output:
    """Read, encode, sample, decode and write, `len(noise_TBZ)` times."""
    return reference(inputs)
