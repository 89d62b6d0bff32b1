"""Layer normalisation as such (sections 1, 3 and 7)."""

from lnexp.evidence.claims.base import NEW, Claim, Section, arm
from lnexp.evidence.effects import Better, LosesLess
from lnexp.evidence.tuning import ExpectedBest

NLL = 0.005  # nats; half the width of the paper's band at batch 4 after one epoch, .066 to .076 (Figure 6)

CLAIMS = (
    Claim(
        "3a",
        "section 3.1",
        "In a recurrent net with layer normalisation, the norm of the gradient through time grows or shrinks less than without.",
        "stability",
        Better("stability/log_gradient_growth", "lower"),
        ({"norm.name": "ln"}, {"norm.name": "none"}),
        NEW,
        0.1,
    ),
    Claim(
        "3b",
        "section 3",
        "Layer normalisation trains with one case per batch; over the first pass its training NLL is lower than that of the net "
        "without normalisation, each at the best of four rates.",
        "mnist_online",
        ExpectedBest("train/nll", "lower", trials=4, over="run"),
        tuple(arm(norm, 1, **{"optimizer.lr": rate}) for norm in ("ln", "none") for rate in (0.00006, 0.00025, 0.001, 0.004)),
        NEW,
        NLL,
    ),
    Claim(
        "3c",
        "section 3.1",
        "On sequences longer than any in training, layer normalisation loses less than batch normalisation.",
        "longer_sequences",
        LosesLess("test/error", "lower"),
        (
            {"norm.name": "ln", "task.length": "longer"},
            {"norm.name": "ln", "task.length": "training"},
            {"norm.name": "bn", "task.length": "longer"},
            {"norm.name": "bn", "task.length": "training"},
        ),
        NEW,
        0.01,
    ),
)

SECTION = Section(
    "3",
    "Layer normalisation",
    "It works at any batch size, down to one case, and at any sequence length, and keeps the hidden dynamics of "
    "recurrent nets stable.",
    "no runs yet",
    "Permuted MNIST below asks the same of an LSTM at batches 100, 16 and 4, as an extension.",
    CLAIMS,
)
