"""Study: is the lead of layer normalisation only robustness to the learning rate?

If so, it is ahead where the rate is drawn blindly (one trial), and not where both nets are tuned (the best of all five rates).
"""

from lnexp.evidence.claims.base import Claim, Section
from lnexp.evidence.claims.study_tasks import SHORT, TASKS, StudyTask, over_rates, study_claim
from lnexp.evidence.tuning import ExpectedBest


def claims(task: StudyTask) -> tuple[Claim, ...]:
    base = {"task.hidden_size": task.width}
    arms = tuple(arm for norm in ("ln", "none") for arm in over_rates({**base, "norm.name": norm}, task.rates))
    kinds = {
        "blind": ("at a rate drawn blindly from five, it ends better", ExpectedBest(task.metric, task.better, 1)),
        "tuned": ("each at the best of five rates, it ends better", ExpectedBest(task.metric, task.better, len(task.rates))),
        "run": (
            "each at the best of five rates, it is better in mean over the run",
            ExpectedBest(task.metric, task.better, len(task.rates), "run"),
        ),
    }
    return tuple(
        study_claim(
            f"lr-{SHORT[task.key]}-{kind}",
            f"{task.title}, layer normalisation against no normalisation: {words}.",
            f"rate_width_{task.key}",
            (measure, arms),
            task.margin,
            study="lr",
        )
        for kind, (words, measure) in kinds.items()
    )


CLAIMS = tuple(claim for task in TASKS for claim in claims(task))

SECTION = Section(
    "lr",
    "Is LN only robustness to the learning rate? (a study)",
    "The paper has one rate for all norms.",
    "short runs, five rates, three widths",
    "Five rates, a factor of 2 apart, one schedule (constant), one optimiser (Adam).",
    CLAIMS,
)
