"""Related work (section 4)."""

from lnexp.evidence.claims.base import NEW, Claim, Section, arm
from lnexp.evidence.effects import Better

ERROR = 0.0125  # SD over seeds 0 to 4 of LN's late error at gain 1, gain_sensitivity

CLAIMS = (
    Claim(
        "4a",
        "section 4",
        "Recurrent batch normalisation ends with a lower error with an initial gain of 0.1 than of 1.",
        "gain_sensitivity",
        Better("valid/error", "lower"),
        (arm("bn", 64, **{"norm.gain": 0.1}), arm("bn", 64, **{"norm.gain": 1.0})),
        NEW,
        ERROR,
    ),
    Claim(
        "4b",
        "section 4",
        "Recurrent batch normalisation works best with statistics of its own for each time step.",
        "reader_shared_statistics",
        Better("valid/error", "lower"),
        (arm("bn", 64, **{"norm.per_step": True}), arm("bn", 64, **{"norm.per_step": False})),
        NEW,
        ERROR,
    ),
)

SECTION = Section(
    "4",
    "Related work",
    "What Cooijmans et al. found of recurrent batch normalisation: an initial gain of 0.1, and statistics per time step.",
    "see 6.2",
    "Runs of half the length of Figure 2's.",
    CLAIMS,
)
