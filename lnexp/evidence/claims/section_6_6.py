"""Permutation-invariant MNIST (section 6.6, Figure 6)."""

from lnexp.evidence.claims.base import Claim, arm
from lnexp.evidence.effects import Better, Faster, LosesLess

CLAIMS = (
    Claim(
        "6.6a",
        "section 6.6, Figure 6",
        "At batch 128, layer normalisation trains faster than batch normalisation of all layers.",
        "fig6",
        Faster("train/nll", "lower"),
        (arm("ln", 128), arm("bn", 128)),
    ),
    Claim(
        "6.6b",
        "section 6.6, Figure 6",
        "At batch 4, layer normalisation trains faster than batch normalisation of all layers.",
        "fig6",
        Faster("train/nll", "lower"),
        (arm("ln", 4), arm("bn", 4)),
    ),
    Claim(
        "6.6c",
        "section 6.6, Figure 6",
        "Layer normalisation is robust to the batch size: from 128 to 4 its test error grows less than batch normalisation's.",
        "fig6",
        LosesLess("test/error", "lower"),
        (arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128)),
    ),
    Claim(
        "6.6d",
        "Figure 6, read off",
        "At batch 4, layer normalisation ends with a lower test error than batch normalisation.",
        "fig6",
        Better("test/error", "lower"),
        (arm("ln", 4), arm("bn", 4)),
    ),
    Claim(
        "6.6e",
        "Figure 6, read off",
        "At batch 128, layer normalisation trains faster than the net without normalisation.",
        "fig6",
        Faster("train/nll", "lower"),
        (arm("ln", 128), arm("none", 128)),
    ),
)
