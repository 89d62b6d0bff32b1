"""Analysis (section 5), decided by computation: a seed is a draw of weights and data, and has the number of entries that hold."""

from lnexp.evidence.claims.base import FIRST, Claim, Section
from lnexp.evidence.effects import Reaches

CLAIMS = (
    Claim(
        "5a",
        "section 5.1, Table 1",
        "The six entries of Table 1 for batch normalisation hold.",
        "table1",
        Reaches("invariance/entries_as_printed", "higher", value=5.5),
        (arm("bn"),),
        FIRST,
        0.25,
    ),
    Claim(
        "5b",
        "section 5.1, Table 1",
        "The six entries of Table 1 for weight normalisation hold.",
        "table1",
        Reaches("invariance/entries_as_printed", "higher", value=5.5),
        (arm("wn"),),
        FIRST,
        0.25,
    ),
    Claim(
        "5c",
        "section 5.1, Table 1",
        "The six entries of Table 1 for layer normalisation hold.",
        "table1",
        Reaches("invariance/entries_as_printed", "higher", value=5.5),
        (arm("ln"),),
        FIRST,
        0.25,
    ),
    Claim(
        "5d",
        "section 5.2.2",
        "The curvature along a weight vector falls to half, or less, when its norm doubles: a lower effective learning rate.",
        "geometry",
        Reaches("geometry/curvature_ratio", "lower", value=0.5),
        ({"norm.name": "ln"},),
        FIRST,
        0.01,
    ),
    Claim(
        "5e",
        "section 5.2.2",
        "Under layer normalisation, the metric along the gains does not change with the scale of inputs and weights.",
        "geometry",
        Reaches("geometry/gain_metric_change", "lower", value=0.001),
        ({"norm.name": "ln"},),
        FIRST,
        0.001,
    ),
)

SECTION = Section(
    "5",
    "Analysis",
    "Table 1's invariances; the geometry of the parameter space slows learning as weights grow; the metric along "
    "gains does not depend on scales.",
    "exact",
    "The text of section 5.1 contradicts Table 1 on weight normalisation, see the errata.",
    CLAIMS,
)
