"""Study: which norm should a recurrent net use? Each norm at the best of three rates."""

from lnexp.evidence.claims.base import Claim, Section
from lnexp.evidence.claims.study_tasks import ORDER, PERMUTED, READER, SHORT, StudyTask, study_claim, tuned

PLACES = (
    (PERMUTED, "lstm", 32),
    (PERMUTED, "gru", 32),
    (PERMUTED, "rnn", 32),
    (PERMUTED, "lstm", 4),
    (READER, "lstm", 64),
    (ORDER, "gru", 128),
)


def claims(task: StudyTask, cell: str, batch: int) -> tuple[Claim, ...]:
    at = {"task.cell": cell, "batch_size": batch}
    return tuple(
        study_claim(
            f"norms-{SHORT[task.key]}-{cell}-b{batch}-{other}",
            f"{task.title}, {cell.upper()}, batch {batch}: layer normalisation ends better than {words}.",
            f"which_norm_{task.key}",
            tuned(task, {**at, "norm.name": "ln"}, {**at, "norm.name": other}),
            task.margin,
            study="norms",
        )
        for other, words in (("none", "no normalisation"), ("bn", "batch normalisation"))
    )


CLAIMS = tuple(claim for place in PLACES for claim in claims(*place))

SECTION = Section(
    "norms",
    "Which norm for a recurrent net? (a study)",
    "The paper's conclusion recommends layer normalisation for recurrent nets.",
    "short runs, 600 to 1,500 updates",
    "Every norm counts at the best of three rates, a factor of 4 apart (reader: 2), seed by seed.",
    CLAIMS,
)
