"""Question answering (section 6.2, Figure 2)."""

from lnexp.evidence.claims.base import Claim, arm
from lnexp.evidence.effects import BetterAtBest, Faster, Steadier

GAINS = (0.01, 0.1, 0.5, 1.0, 2.0)

CLAIMS = (
    Claim(
        "6.2a",
        "section 6.2, Figure 2",
        "Question answering: LN-LSTM has a lower best error than LSTM.",
        "fig2",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2a-tuned",
        "extension of section 6.2",
        "Question answering, each norm at its own learning rate: LN-LSTM has a lower best error than LSTM.",
        "fig2_tuned",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2b",
        "section 6.2, Figure 2",
        "Question answering: LN-LSTM has a lower best error than BN-LSTM.",
        "fig2",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("bn", 64)),
    ),
    Claim(
        "6.2b-tuned",
        "extension of section 6.2",
        "Question answering, each norm at its own learning rate: LN-LSTM has a lower best error than BN-LSTM.",
        "fig2_tuned",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("bn", 64)),
    ),
    Claim(
        "6.2c",
        "section 6.2, Figure 2",
        "Question answering: LN-LSTM has a lower best error than BN-everywhere.",
        "fig2",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("bn_everywhere", 64)),
    ),
    Claim(
        "6.2c-tuned",
        "extension of section 6.2",
        "Question answering, each norm at its own learning rate: LN-LSTM has a lower best error than BN-everywhere.",
        "fig2_tuned",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64), arm("bn_everywhere", 64)),
    ),
    Claim(
        "6.2d",
        "section 6.2, Figure 2",
        "Question answering: LN-LSTM needs fewer updates than LSTM to an equal error.",
        "fig2",
        Faster("valid/error", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2d-tuned",
        "extension of section 6.2",
        "Question answering, each norm at its own learning rate: LN-LSTM needs fewer updates than LSTM to an equal error.",
        "fig2_tuned",
        Faster("valid/error", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2e",
        "section 6.2, Figure 2",
        "Question answering: LN-LSTM needs fewer updates than LSTM to an equal NLL.",
        "fig2",
        Faster("valid/nll", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2e-tuned",
        "extension of section 6.2",
        "Question answering, each norm at its own learning rate: LN-LSTM needs fewer updates than LSTM to an equal NLL.",
        "fig2_tuned",
        Faster("valid/nll", "lower"),
        (arm("ln", 64), arm("none", 64)),
    ),
    Claim(
        "6.2f",
        "section 6.2",
        "Question answering: the best error of LN-LSTM is lower with an initial gain of 1 than of 0.1.",
        "gain_sensitivity",
        BetterAtBest("valid/error", "lower"),
        (arm("ln", 64, **{"norm.gain": 1.0}), arm("ln", 64, **{"norm.gain": 0.1})),
    ),
    Claim(
        "6.2g",
        "extension of section 6.2",
        "Question answering: the best error depends less on the initial gain under layer than under batch normalisation.",
        "gain_sensitivity",
        Steadier("valid/error", "lower"),
        tuple(arm(norm, 64, **{"norm.gain": gain}) for norm in ("ln", "bn") for gain in GAINS),
    ),
)
