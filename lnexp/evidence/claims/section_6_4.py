"""Binarised MNIST with DRAW (section 6.4, Figure 4).

fig4_larochelle is on the paper's data, each norm at its own rate (from fig4_larochelle_rates, by validation on trial seeds).
fig4 is smaller, on the embedded digits, with one rate for all norms. 390 updates are an epoch: shares of updates are shares of
epochs.
"""

from lnexp.evidence.claims.base import FIRST, SPEED, Claim, Section, arm
from lnexp.evidence.effects import Better, Faster, LosesLess

LN_NONE = (arm("ln", 128), arm("none", 128))
LN_WN = (arm("ln", 128), arm("wn", 128))
WN_NONE = (arm("wn", 128), arm("none", 128))
BOUND = 0.5  # nats: the smallest difference between two seeds in trials (0.5 to 3); there are no tables yet
BOUND_DESK = 1.0  # nats: half of a typical difference between two seeds in trials at desk scale, after 2,000 to 2,500 updates

CLAIMS = (
    Claim(
        "6.4a",
        "section 6.4, Figure 4",
        "DRAW: layer normalisation needs about half the updates to an equal bound (almost twice as fast).",
        "fig4_larochelle",
        Faster("test/bound", "lower", share=0.5),
        LN_NONE,
        FIRST,
        SPEED,
    ),
    Claim(
        "6.4b",
        "section 6.4, Figure 4",
        "DRAW: layer normalisation needs fewer updates to an equal bound.",
        "fig4_larochelle",
        Faster("test/bound", "lower"),
        LN_NONE,
        FIRST,
        SPEED,
    ),
    Claim(
        "6.4c",
        "section 6.4",
        "DRAW: layer normalisation ends with the lower bound on the negative log likelihood.",
        "fig4_larochelle",
        Better("test/bound", "lower"),
        LN_NONE,
        FIRST,
        BOUND,
    ),
    Claim(
        "6.4d",
        "Figure 4, read off",
        "DRAW: layer normalisation needs fewer updates than weight normalisation to an equal bound.",
        "fig4_larochelle",
        Faster("test/bound", "lower"),
        LN_WN,
        FIRST,
        SPEED,
    ),
    Claim(
        "6.4e",
        "Figure 4, read off",
        "DRAW: weight normalisation needs fewer updates than no normalisation to an equal bound.",
        "fig4_larochelle",
        Faster("test/bound", "lower"),
        WN_NONE,
        FIRST,
        SPEED,
    ),
    Claim(
        "6.4b-desk",
        "extension of section 6.4",
        "A small DRAW on the embedded digits: layer normalisation needs fewer updates to an equal bound.",
        "fig4",
        Faster("test/bound", "lower"),
        LN_NONE,
        FIRST,
        SPEED,
        extension=True,
    ),
    Claim(
        "6.4c-desk",
        "extension of section 6.4",
        "A small DRAW on the embedded digits: layer normalisation ends with the lower bound.",
        "fig4",
        Better("test/bound", "lower"),
        LN_NONE,
        FIRST,
        BOUND_DESK,
        extension=True,
    ),
    Claim(
        "6.4d-desk",
        "extension of section 6.4",
        "A small DRAW on the embedded digits: layer normalisation needs fewer updates to an equal bound than weight "
        "normalisation.",
        "fig4",
        Faster("test/bound", "lower"),
        LN_WN,
        FIRST,
        SPEED,
        extension=True,
    ),
    Claim(
        "6.4-rms",
        "extension of section 6.4",
        "A small DRAW on the embedded digits: layer normalisation needs fewer updates than RMS normalisation to an equal bound.",
        "fig4",
        Faster("test/bound", "lower"),
        (arm("ln", 128), arm("rms", 128)),
        FIRST,
        SPEED,
        extension=True,
    ),
    Claim(
        "6.4-start",
        "extension of section 6.4",
        "From the start of public code, layer normalisation loses less of its final bound than no normalisation: part of "
        "its lead is repair of that start.",
        "fig4_start",
        LosesLess("test/bound", "lower"),
        tuple(arm(norm, 128, **{"task.start": start}) for norm in ("ln", "none") for start in ("released", "wide")),
        FIRST,
        BOUND_DESK,
        extension=True,
    ),
)

SECTION = Section(
    "6.4",
    "Modelling binarised MNIST with DRAW",
    "Converges almost twice as fast, to 82.09 instead of 82.36 nats after 200 epochs.",
    "no runs yet",
    "Not tried yet.",
    CLAIMS,
    task="draw",
)
