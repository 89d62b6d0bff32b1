"""Normalisation for your own models: usable without the rest of lnexp."""

from lnexp.nn.norms import NORMS, BatchNorm, LayerNorm, Norm, RMSNorm, WeightNorm

__all__ = ["NORMS", "BatchNorm", "LayerNorm", "Norm", "RMSNorm", "WeightNorm"]
