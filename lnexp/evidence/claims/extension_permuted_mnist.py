"""Permuted MNIST: an extension; the paper claims this of recurrent nets in general (sections 1 and 3)."""

from lnexp.evidence.claims.base import Claim, arm
from lnexp.evidence.effects import Better, Faster

CLAIMS = (
    Claim(
        "pm-a",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs fewer updates than the plain one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("none", 100)),
    ),
    Claim(
        "pm-b",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs less training time than the plain one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher", "seconds"),
        (arm("ln", 100), arm("none", 100)),
    ),
    Claim(
        "pm-c",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs fewer updates than the batch-normalised one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("bn", 100)),
    ),
    Claim(
        "pm-d",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16: the layer-normalised LSTM ends with the better accuracy than the plain one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("none", 16)),
    ),
    Claim(
        "pm-e",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16: the layer-normalised LSTM ends with the better accuracy than the batch-normalised one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("bn", 16)),
    ),
    Claim(
        "pm-f",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 4: the layer-normalised LSTM ends with the better accuracy than the batch-normalised one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 4), arm("bn", 4)),
    ),
)
