"""Studies of what the paper claims in general (sections 1, 3, 5): any batch size, sequence length, initial scale, any number of
processes."""

from lnexp.evidence.claims.base import Claim, Section
from lnexp.evidence.claims.study_tasks import PERMUTED, Arm, StudyTask, study_claim, tuned
from lnexp.evidence.effects import Better, LosesLess

MNIST = StudyTask("mnist", "MNIST", "valid/error", "lower", 0.003, (), (), 256, 128, "")  # margin: ERROR_4 of section 6.6
MNIST_RATES = (0.00006, 0.00025, 0.001, 0.004)
ONLINE_RATES = (0.00025, 0.001, 0.004, 0.016)
SCALES = (0.001, 0.01, 0.1, 10.0, 100.0, 1.0)  # the last is what others are compared with
LOCAL_RATES = (0.00025, 0.001, 0.004)


def at_batch(task: StudyTask, batch: int, other: str, rates: tuple[float, ...], experiment: str) -> Claim:
    first, second = ({"norm.name": norm, "batch_size": batch} for norm in ("ln", other))
    words = {"bn": "batch normalisation", "none": "no normalisation"}[other]
    return study_claim(
        f"size-batch-{task.key}-{batch}-{other}",
        f"{task.title}, one pass over the digits, batch {batch}: layer normalisation ends better than {words}.",
        experiment,
        tuned(task, first, second, rates),
        task.margin,
        where="extension of section 3",
        study="size",
    )


def scales(task: StudyTask, other: str) -> Claim:
    arms = tuple({"norm.name": norm, "task.init_scale": scale} for norm in ("ln", other) for scale in SCALES)
    words = {"bn": "batch normalisation", "none": "the net without normalisation"}[other]
    return study_claim(
        f"size-scale-{task.key}-{other}",
        f"{task.title}: from initial weights of other scales, over five decades, layer normalisation loses less than {words}.",
        f"initial_scale_{task.key}",
        (LosesLess(task.metric, task.better), arms),
        task.margin,
        where="extension of section 5.1",
        study="size",
    )


def local(id: str, says: str, first: Arm, second: Arm) -> Claim:
    compared = tuned(MNIST, first, second, LOCAL_RATES)
    return study_claim(f"size-local-{id}", f"MNIST, batch 16: {says}.", "distributed_mnist", compared, MNIST.margin, study="size")


def longer(other: str, words: str) -> Claim:
    compared = Better("longer/accuracy_8", "higher"), ({"norm.name": "ln"}, {"norm.name": other})
    return study_claim(
        f"size-longer-{other}",
        f"Permuted MNIST, sequences eight times as long as in training: layer normalisation is more accurate than {words}.",
        "longer_digits",
        compared,
        PERMUTED.margin,
        where="extension of section 3",
        study="size",
    )


WHOLE, LOCAL_2, LOCAL_8 = ({"norm.name": "bn", "local_batches": parts} for parts in (1, 2, 8))

CLAIMS = (
    *(at_batch(MNIST, batch, other, MNIST_RATES, "batch_size_mnist") for batch in (2, 128) for other in ("bn", "none")),
    *(
        at_batch(PERMUTED, batch, other, ONLINE_RATES, "batch_size_permuted_mnist")
        for batch in (2, 128)
        for other in ("bn", "none")
    ),
    at_batch(PERMUTED, 1, "none", ONLINE_RATES, "permuted_mnist_online"),
    *(scales(task, other) for task in (MNIST, PERMUTED) for other in ("none", "bn")),
    longer("bn", "batch normalisation, which has no statistics of later steps"),
    longer("none", "no normalisation"),
    local("bn-8", "batch normalisation over all cases ends better than over the 2 cases of each of 8 processes", WHOLE, LOCAL_8),
    local("bn-2", "batch normalisation over all cases ends better than over the 8 cases of each of 2 processes", WHOLE, LOCAL_2),
    local(
        "ln-8",
        "layer normalisation ends better than batch normalisation over the 2 cases of each of 8 processes",
        {"norm.name": "ln", "local_batches": 8},
        LOCAL_8,
    ),
)

SECTION = Section(
    "size",
    "Batch size, length, initial scale, processes (studies)",
    "Layer normalisation works at any batch size, sequence length and initial scale of the weights, and needs no communication "
    "between processes.",
    "one pass over the digits, or 1,500 updates",
    "Claims on initial scale and length are at one rate for all norms.",
    CLAIMS,
)
