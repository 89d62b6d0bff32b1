"""Convolutional nets (section 6.7)."""

from lnexp.evidence.claims.base import NEW, SPEED, Claim, Section, arm
from lnexp.evidence.effects import Better, Faster

ERROR = 0.02  # the smallest difference between two seeds in trials (0.02 to 0.05); there are no tables yet

CLAIMS = (
    Claim(
        "6.7a",
        "section 6.7",
        "Convolutional net: layer normalisation trains faster than no normalisation.",
        "convnet",
        Faster("train/nll", "lower"),
        (arm("ln", 64), arm("none", 64)),
        NEW,
        SPEED,
    ),
    Claim(
        "6.7b",
        "section 6.7",
        "Convolutional net: batch normalisation ends with a lower test error than layer normalisation.",
        "convnet",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("ln", 64)),
        NEW,
        ERROR,
    ),
    Claim(
        "6.7c",
        "section 6.7",
        "Convolutional net: batch normalisation ends with a lower test error than no normalisation.",
        "convnet",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("none", 64)),
        NEW,
        ERROR,
    ),
)

SECTION = Section(
    "6.7",
    "Convolutional networks",
    "Layer normalisation is faster than none; batch normalisation outperforms both.",
    "no runs yet",
    "The paper shows no network, data or number.",
    CLAIMS,
)
