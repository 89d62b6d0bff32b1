"""What the studies share: their tasks with the metric, the margin and the grid of rates, and arms that are tuned on it.

The margin is the size of a difference that matters here, chosen before any run: about the SD over seeds of a net without
normalisation in earlier runs of the task (accuracy .014, permuted_mnist at batch 16; error .0125, gain_sensitivity; recall 1.3,
fig1_flickr8k), rounded down where that is a round number.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from lnexp.evidence.claims.base import NEW, Claim
from lnexp.evidence.effects import Measure
from lnexp.evidence.tuning import ExpectedBest

Arm = dict[str, Any]


class StudyTask(NamedTuple):
    """A task of the studies.

    Attributes:
        key: end of the names of its presets.
        title: beginning of its sentences.
        metric, better: what is compared.
        margin: of equivalence, in the unit of the metric.
        rates: the five rates of rate_width_*.
        few: the rates of the other studies: the reader's are the best of fig2_rates with their neighbours.
        width: number of units of the other studies.
        batch_size: of the other studies.
        cell: of the other studies.
    """

    key: str
    title: str
    metric: str
    better: Literal["lower", "higher"]
    margin: float
    rates: tuple[float, ...]
    few: tuple[float, ...]
    width: int
    batch_size: int
    cell: str


HIGH = (0.001, 0.002, 0.004, 0.008, 0.016)
LOW = (0.0005, 0.001, 0.002, 0.004, 0.008)
PERMUTED = StudyTask("permuted_mnist", "Permuted MNIST", "valid/accuracy", "higher", 0.01, HIGH, HIGH[::2], 100, 32, "lstm")
READER = StudyTask("reader", "Question answering", "valid/error", "lower", 0.0125, LOW, LOW[1:4], 64, 64, "lstm")
ORDER = StudyTask("order", "Order embeddings", "valid/image_recall_sum", "higher", 1.3, LOW, LOW[::2], 256, 128, "gru")
TASKS = (PERMUTED, READER, ORDER)
SHORT = {"permuted_mnist": "pm", "reader": "qa", "order": "oe"}


def over_rates(arm: Arm, rates: tuple[float, ...]) -> tuple[Arm, ...]:
    """An arm at each rate."""
    return tuple({**arm, "optimizer.lr": rate} for rate in rates)


def tuned(task: StudyTask, first: Arm, second: Arm, rates: tuple[float, ...] = ()) -> tuple[Measure, tuple[Arm, ...]]:
    """The measure and the arms of "the first ends better than the second, each at the best of the rates, seed by seed"."""
    rates = rates or task.few
    measure = ExpectedBest(task.metric, task.better, trials=len(rates))
    return measure, over_rates(first, rates) + over_rates(second, rates)


def study_claim(
    id: str,
    says: str,
    experiment: str,
    compared: tuple[Measure, tuple[Arm, ...]],
    margin: float,
    where: str = "extension",
    *,
    study: str,
) -> Claim:
    """A claim of a study: an extension of the paper, decided by seeds 5 to 9."""
    measure, arms = compared
    return Claim(id, where, says, experiment, measure, arms, NEW, margin, extension=True, study=study)
