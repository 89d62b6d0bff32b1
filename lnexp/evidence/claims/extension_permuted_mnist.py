"""Permuted MNIST, an extension: the paper claims this of recurrent nets in general (sections 1 and 3)."""

from lnexp.evidence.claims.base import FIRST, NEW, SPEED, Claim, Section, arm
from lnexp.evidence.effects import Better, Faster

ACCURACY_16 = 0.014  # SD over seeds 0 to 4 of the late accuracy of the plain LSTM at batch 16, permuted_mnist
ACCURACY_4 = 0.021  # the same at batch 4

CLAIMS = (
    Claim(
        "pm-a",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs fewer updates than the plain one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("none", 100)),
        NEW,
        SPEED,
        extension=True,
    ),
    Claim(
        "pm-b",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs less processor time than the plain one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher", axis="cpu_seconds"),
        (arm("ln", 100), arm("none", 100)),
        NEW,
        SPEED,
        extension=True,
    ),
    Claim(
        "pm-c",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100: the layer-normalised LSTM needs fewer updates than the batch-normalised one.",
        "permuted_mnist",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("bn", 100)),
        NEW,
        SPEED,
        extension=True,
    ),
    Claim(
        "pm-d",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16: the layer-normalised LSTM ends with a better accuracy than the plain one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("none", 16)),
        FIRST,
        ACCURACY_16,
        extension=True,
    ),
    Claim(
        "pm-e",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16: the layer-normalised LSTM ends with a better accuracy than the batch-normalised one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("bn", 16)),
        FIRST,
        ACCURACY_16,
        extension=True,
    ),
    Claim(
        "pm-f",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 4: the layer-normalised LSTM ends with a better accuracy than the batch-normalised one.",
        "permuted_mnist",
        Better("valid/accuracy", "higher"),
        (arm("ln", 4), arm("bn", 4)),
        FIRST,
        ACCURACY_4,
        extension=True,
    ),
    Claim(
        "pm-a-tuned",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100, each norm at its own learning rate: the layer-normalised LSTM needs fewer updates "
        "than the plain one.",
        "permuted_mnist_tuned",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("none", 100)),
        NEW,
        SPEED,
        extension=True,
    ),
    Claim(
        "pm-c-tuned",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 100, each norm at its own learning rate: the layer-normalised LSTM needs fewer updates "
        "than the batch-normalised one.",
        "permuted_mnist_tuned",
        Faster("valid/accuracy", "higher"),
        (arm("ln", 100), arm("bn", 100)),
        NEW,
        SPEED,
        extension=True,
    ),
    Claim(
        "pm-d-tuned",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16, each norm at its own learning rate: the layer-normalised LSTM ends with the better "
        "accuracy than the plain one.",
        "permuted_mnist_tuned",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("none", 16)),
        NEW,
        ACCURACY_16,
        extension=True,
    ),
    Claim(
        "pm-e-tuned",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 16, each norm at its own learning rate: the layer-normalised LSTM ends with the better "
        "accuracy than the batch-normalised one.",
        "permuted_mnist_tuned",
        Better("valid/accuracy", "higher"),
        (arm("ln", 16), arm("bn", 16)),
        NEW,
        ACCURACY_16,
        extension=True,
    ),
    Claim(
        "pm-f-tuned",
        "extension of sections 1 and 3",
        "Permuted MNIST, batch 4, each norm at its own learning rate: the layer-normalised LSTM ends with the better "
        "accuracy than the batch-normalised one.",
        "permuted_mnist_tuned",
        Better("valid/accuracy", "higher"),
        (arm("ln", 4), arm("bn", 4)),
        NEW,
        ACCURACY_4,
        extension=True,
    ),
)

SECTION = Section(
    "pm",
    "Permuted MNIST (an extension)",
    "Not in the paper: its sections 1 and 3 claim of recurrent nets in general that they train faster and at small batches.",
    "196 of 784 steps; 2 of 200 epochs of Cooijmans et al.",
    "One learning rate for all norms, chosen on seeds 0 to 2, which are among those that decide pm-d to pm-f.",
    CLAIMS,
    task="permuted_mnist",
)
