"""How often the measures give false verdicts, and their power, on simulated learning curves.

A study has five seeds; a seed has a speed of its own (SD 10 %) and an offset that both arms share; each run varies in speed
(SD 8 %) and each evaluation has noise. The curve is y(t) = plateau + exp(-(speed t / 500)^0.8) at 20 evaluations, never below a
floor: a run with a floor follows the same curve and then stops falling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnexp.evidence.effects import Ahead, Better, Faster, LosesLess, Measure, Series
from lnexp.evidence.stats import MIN_SEEDS, VERDICTS, paired, verdict

UPDATES = np.arange(1, 21) * 100.0
MARGIN = float(np.log(1.25))


@dataclass(frozen=True)
class Arm:
    """How the runs of an arm learn. `skipped` evaluations are missing at the start, so that fast runs are left-censored."""

    speed: float = 1.0
    noise: float = 0.01
    plateau: float = 0.2
    floor: float = 0.0
    skipped: int = 0

    def run(self, random: np.random.Generator, speed: float, offset: float) -> Series:
        t = UPDATES[self.skipped :]
        value = self.plateau + np.exp(-((t * self.speed * speed * np.exp(random.normal(0, 0.08)) / 500) ** 0.8))
        return Series(t, 0.1 * t, np.maximum(value, self.floor) + offset + random.normal(0, self.noise, len(t)))


PLAIN, NOISY = Arm(), Arm(noise=0.03)
NULL = {  # no difference in what the measure compares: any verdict but "equivalent" and "inconclusive" is false
    "equal arms": (PLAIN, PLAIN),
    "3-fold noise": (NOISY, PLAIN),
    "a third of the noise": (PLAIN, NOISY),
    "censored, 3-fold noise": (Arm(skipped=3, noise=0.03), Arm(skipped=3)),
    "nothing learned, 3-fold noise": (Arm(floor=2.0, noise=0.03), Arm(floor=2.0)),
}
PLATEAUS = {  # equally fast down to the plateau of the first arm, which comes early: a difference in the end, not in speed
    "early plateau": (Arm(floor=0.35), PLAIN),
    "early plateau, 3-fold noise": (Arm(floor=0.35, noise=0.03), PLAIN),
}
FASTER = {"1.3 times as fast": (Arm(speed=1.3), PLAIN), "1.3 times as fast, 3-fold noise": (Arm(speed=1.3, noise=0.03), PLAIN)}
WORSE = {"a worse plateau": (Arm(plateau=0.23), PLAIN)}  # slower to every level: "supported" is false, "contradicted" is true
MEASURES: tuple[Measure, ...] = (
    Faster("simulated", "lower"),
    Faster("simulated", "lower", log=True),
    Better("simulated", "lower"),
    Ahead("simulated", "lower"),
    LosesLess("simulated", "lower"),
)


def rates(measure: Measure, arms: Sequence[Arm], studies: int, seed: int = 0) -> dict[str, float]:
    """The share of studies with each verdict, by the rule for a single claim (Holm over one).

    Args:
        measure: the measure; `LosesLess` gets two runs of each arm.
        arms: the two arms; the claim is that the first does better.
    """
    random = np.random.default_rng(seed)
    copies = 1 if measure.takes(2) else 2
    words = []
    for _ in range(studies):
        found = []
        for _ in range(MIN_SEEDS):
            speed, offset = np.exp(random.normal(0, 0.1)), random.normal(0, 0.01)
            found.append(measure.contrast([arm.run(random, speed, offset) for arm in arms for _ in range(copies)]))
        outcome = paired(np.array(found), MARGIN)
        words.append(verdict(outcome, outcome.p_t, outcome.p_t_against))
    return {word: words.count(word) / studies for word in VERDICTS[:-1]}


def printed(studies: int = 1000) -> str:
    """A table of the rates of all measures in all cases, in percent."""
    lines = [f"{'measure':<14}{'case':<34}" + "".join(f"{word:>14}" for word in VERDICTS[:-1])]
    for measure in MEASURES:
        name = type(measure).__name__ + (", log" if getattr(measure, "log", False) else "")
        for case, arms in (NULL | PLATEAUS | WORSE | FASTER).items():
            found = rates(measure, arms, studies)
            lines.append(f"{name:<14}{case:<34}" + "".join(f"{100 * share:>13.1f}%" for share in found.values()))
    return "\n".join(lines)
