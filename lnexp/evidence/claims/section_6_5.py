"""Handwriting (section 6.5, Figure 5)."""

from lnexp.evidence.claims.base import NEW, SPEED, Claim, Section, arm
from lnexp.evidence.effects import Better, Faster

LN_NONE = (arm("ln", 8), arm("none", 8))
NLL = 5.0  # nats a sequence: the largest difference between two seeds in trials; there are no tables yet

CLAIMS = (
    Claim(
        "6.5a",
        "section 6.5, Figure 5",
        "Handwriting: layer normalisation needs fewer updates to an equal test NLL.",
        "fig5",
        Faster("test/nll", "lower"),
        LN_NONE,
        NEW,
        SPEED,
    ),
    Claim(
        "6.5b",
        "section 6.5, Figure 5",
        "Handwriting: layer normalisation ends with a comparable test NLL (equivalent, or better).",
        "fig5",
        Better("test/nll", "lower"),
        LN_NONE,
        NEW,
        NLL,
    ),
)

SECTION = Section(
    "6.5",
    "Handwriting sequence generation",
    "A comparable log likelihood, reached much faster.",
    "no runs yet",
    "Not tried yet.",
    CLAIMS,
)
