"""lnexp: every experiment of "Layer Normalization" (Ba, Kiros, Hinton, arXiv 1607.06450), re-run with seeds."""

__version__ = "0.1.0"
