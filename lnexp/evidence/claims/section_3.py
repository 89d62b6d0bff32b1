"""Layer normalisation as such (sections 1, 3 and 7)."""

from typing import Any

from lnexp.evidence.claims.base import NEW, Claim, Section, arm
from lnexp.evidence.effects import Better, LosesLess
from lnexp.evidence.tuning import ExpectedBest

NLL = 0.005  # nats; half the width of the paper's band at batch 4 after one epoch, .066 to .076 (Figure 6)


def stable(id: str, cell: str, weights: str, says: str, extension: bool = True) -> Claim:
    """That the gradient through 100 steps grows or shrinks less: mean over recurrent scales of |log10 of its growth|."""
    arms: tuple[dict[str, Any], ...] = tuple(
        {"norm.name": norm, "cell": cell, "weights": weights, "part": "summary"} for norm in ("ln", "none")
    )
    measure = Better("stability/log_gradient_growth", "lower")
    where = "extension of section 3.1" if extension else "section 3.1"
    return Claim(id, where, says, "stability", measure, arms, NEW, 0.1, extension=extension)  # 0.1: a factor of 1.26


CLAIMS = (
    stable(
        "3a",
        "rnn",
        "drawn",
        "In a recurrent net with layer normalisation, the norm of the gradient through time grows or shrinks less than without.",
        extension=False,
    ),
    stable(
        "3a-trained",
        "rnn",
        "trained",
        "In a trained RNN, the gradient through time grows or shrinks less with layer normalisation than without.",
    ),
    stable(
        "3a-lstm",
        "lstm",
        "drawn",
        "In an untrained LSTM, the gradient through time grows or shrinks less with layer normalisation than without.",
    ),
    stable(
        "3a-lstm-trained",
        "lstm",
        "trained",
        "In a trained LSTM, the gradient through time grows or shrinks less with layer normalisation than without.",
    ),
    stable(
        "3a-gru",
        "gru",
        "drawn",
        "In an untrained GRU, the gradient through time grows or shrinks less with layer normalisation than without.",
    ),
    stable(
        "3a-gru-trained",
        "gru",
        "trained",
        "In a trained GRU, the gradient through time grows or shrinks less with layer normalisation than without.",
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
        "length",
        LosesLess("test/error", "lower"),
        tuple({"norm.name": norm, "problem": "adding", "length": length} for norm in ("ln", "bn") for length in (256, 32)),
        NEW,
        0.01,  # of the mean squared error, which is 0.667 without learning
    ),
)

SECTION = Section(
    "3",
    "Layer normalisation",
    "It works at any batch size, down to one case, and at any sequence length, and keeps the hidden dynamics of "
    "recurrent nets stable.",
    "nets of 32 units for the analysis of dynamics",
    "Permuted MNIST below asks the same of an LSTM at batches 100, 16 and 4, as an extension.",
    CLAIMS,
    analyses=("stability", "length"),
)
