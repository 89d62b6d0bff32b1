"""Study: where in the LSTM and GRU layer normalisation should stand. Libraries disagree; the paper has "all_gates" (20-28).

Each placement against the paper's, both at the best of three rates.
"""

from lnexp.evidence.claims.base import Claim, Section
from lnexp.evidence.claims.study_tasks import ORDER, PERMUTED, READER, SHORT, StudyTask, study_claim, tuned

SAYS = {
    "per_gate": "a norm for each gate ends better than one over all gates",
    "gates_only": "norms of the gates alone end better than with the new cell's as well",
    "cell_only": "a norm of the new cell alone ends better than with the gates' as well",
    "carried_cell": "carrying the normalised cell on ends better than carrying the cell itself",
    "bias_inside": "a bias inside the input term's norm ends better than outside of it",
}
LSTM = tuple(SAYS)
GRU = ("per_gate", "bias_inside")


def claims(task: StudyTask, experiment: str, placements: tuple[str, ...], id: str, cell: str) -> tuple[Claim, ...]:
    return tuple(
        study_claim(
            f"where-{id}-{placement}",
            f"{task.title}, {cell} with layer normalisation: {SAYS[placement]}.",
            experiment,
            tuned(task, {"task.placement": placement}, {"task.placement": "all_gates"}),
            task.margin,
            study="where",
        )
        for placement in placements
    )


CLAIMS = (
    *claims(PERMUTED, "where_permuted_mnist", LSTM, SHORT["permuted_mnist"], "LSTM"),
    *claims(PERMUTED, "where_permuted_mnist_gru", GRU, "pm-gru", "GRU"),
    *claims(READER, "where_reader", tuple(p for p in LSTM if p != "carried_cell"), SHORT["reader"], "LSTM"),
    *claims(ORDER, "where_order", GRU, SHORT["order"], "GRU"),
)

SECTION = Section(
    "where",
    "Where in the cell? (a study)",
    "Not in the paper, which states one place for each model; its code and other libraries have others.",
    "short runs, 600 to 1,500 updates",
    "Rates are three, a factor of 4 apart (reader: 2); each placement counts at its best one, seed by seed.",
    CLAIMS,
)
