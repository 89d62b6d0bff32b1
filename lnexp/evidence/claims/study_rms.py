"""Study: is RMS normalisation equivalent to layer normalisation in recurrent nets, and what do gain and statistics add?

"Equivalent" is the answer of two one-sided tests (`lnexp.evidence.stats`) with the margin of the task.
"""

from lnexp.evidence.claims.base import Claim, Section
from lnexp.evidence.claims.study_tasks import SHORT, TASKS, StudyTask, study_claim, tuned
from lnexp.evidence.effects import Reaches

OTHERS = {
    "rms": "than RMS normalisation, which does not centre",
    "ln_simple": "than without gain and bias",
    "dyt": "than dynamic tanh, which has no statistics",
}
SHARE = 0.01  # a direction drawn at random has 1/g of its squared length along ones, g = 256 to 512 units


def claims(task: StudyTask) -> tuple[Claim, ...]:
    experiment, short = f"rms_{task.key}", SHORT[task.key]
    ends = tuple(
        study_claim(
            f"rms-{short}-{other}",
            f"{task.title}: layer normalisation ends better {words}.",
            experiment,
            tuned(task, {"norm.name": "ln"}, {"norm.name": other}),
            task.margin,
            study="rms",
        )
        for other, words in OTHERS.items()
    )
    share = study_claim(
        f"rms-{short}-share",
        f"{task.title}: under RMS normalisation, at most {SHARE:.0%} of |W_hh h|^2 lies along the vector of ones, so that there "
        "is little for centring to remove.",
        experiment,
        (
            Reaches("recurrent/ones_share", "lower", SHARE),
            ({"norm.name": "rms", "optimizer.lr": task.rates[2]},),
        ),
        SHARE / 4,
        study="rms",
    )
    return (*ends, share)


CLAIMS = tuple(claim for task in TASKS for claim in claims(task))

SECTION = Section(
    "rms",
    "Is RMS equivalent to LN in recurrent nets? (a study)",
    "Not in the paper.",
    "short runs, 600 to 1,500 updates",
    "Equivalent means within the margin of a claim, at these sizes and budgets.",
    CLAIMS,
)
