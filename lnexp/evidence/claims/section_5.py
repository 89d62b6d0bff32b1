"""Analysis (section 5), decided by computation: a seed is a draw of weights and data."""

from typing import Any

from lnexp.evidence.claims.base import FIRST, Claim, Section
from lnexp.evidence.effects import Reaches


def entries(id: str, norm: str, name: str) -> Claim:
    """That the six entries of Table 1 for a norm hold; the effect is the number that hold in every draw, less 5.5."""
    says = f"The six entries of Table 1 for {name} hold."
    measure = Reaches("invariance/entries_as_printed", "higher", value=5.5)
    return Claim(id, "section 5.1, Table 1", says, "table1", measure, ({"norm.name": norm, **LAYER},), FIRST, 0.25)


def part(norm: str, name: str, **more: Any) -> tuple[dict[str, Any]]:
    """The arm of a part of the geometry; for its Fisher information, that of a softmax output."""
    return ({"norm.name": norm, "part": name, **(more or {"output": "softmax"})},)


LAYER = {"layer": "dense", "eps": 1e-30}

CLAIMS = (
    entries("5a", "bn", "batch normalisation"),
    entries("5b", "wn", "weight normalisation"),
    entries("5c", "ln", "layer normalisation"),
    Claim(
        "5d",
        "section 5.2.2",
        "The curvature along a weight vector falls to half, or less, when its norm doubles: a lower effective learning rate.",
        "geometry",
        Reaches("geometry/curvature_ratio", "lower", value=0.5),
        part("ln", "curvature"),
        FIRST,
        0.01,
    ),
    Claim(
        "5e",
        "section 5.2.2",
        "Under layer normalisation, the metric along the gains does not change with the scale of inputs and weights.",
        "geometry",
        Reaches("geometry/gain_metric_change", "lower", value=0.001),
        part("ln", "gains"),
        FIRST,
        0.0001,  # of relative change; a tenth of what counts as none
    ),
    Claim(
        "5f",
        "section 5.1, text",
        "Weight normalisation, too, is invariant to re-scaling of the data set (Table 1 says that it is not).",
        "table1",
        Reaches("largest/data_rescaling", "lower", value=1e-9),
        ({"norm.name": "wn", **LAYER},),
        FIRST,
        0.001,  # what counts as a visible change of the output
    ),
    Claim(
        "5g",
        "section 5.2.2",
        "The curvature along a weight vector changes by a factor of 1/2, as printed, when its norm doubles.",
        "geometry",
        Reaches("geometry/distance_from_half", "lower", value=0.01),
        part("ln", "curvature"),
        FIRST,
        0.01,
    ),
    Claim(
        "5h",
        "section 5.2.2, supplement",
        "Under weight normalisation, the metric along the gains depends on the scale of the inputs.",
        "geometry",
        Reaches("geometry/gain_metric_input_change", "higher", value=0.1),
        part("wn", "gains", output="gaussian"),  # whose covariance does not depend on the inputs
        FIRST,
        0.05,  # half of the relative change that counts as one
    ),
    Claim(
        "5i",
        "section 5.2.2",
        "Implicit early stopping: weight vectors that start at twice the norm are turned by a smaller angle per update.",
        "geometry",
        Reaches("geometry/angle_ratio", "lower", value=1.0),
        part("ln", "training", multiple=2.0),
        FIRST,
        0.05,  # of the ratio of mean angles
    ),
    Claim(
        "5j",
        "section 5.2.1, equations 13 and 14",
        "Equation (13) is the Fisher information of a layer-normalised model.",
        "geometry",
        Reaches("fisher/left_out", "lower", value=0.01),
        part("ln", "matrix"),
        FIRST,
        0.01,  # of the matrix's norm
    ),
)

SECTION = Section(
    "5",
    "Analysis",
    "Table 1's invariances; the geometry of the parameter space slows learning as weights grow; the metric along "
    "gains does not depend on scales.",
    "exact",
    "The text of section 5.1 contradicts Table 1 on weight normalisation, and 5.2.2 gives a factor of 1/2, see the errata.",
    CLAIMS,
    analyses=("table1", "geometry"),
)
