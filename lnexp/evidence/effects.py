"""What is measured of the runs of one seed, one of each arm: a number that is positive where the paper is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

LATE = 0.2  # the share of a run, at its end, over which a final value is averaged


@dataclass(frozen=True)
class Series:
    """One metric of one run over its evaluations: updates_n, seconds_n and value_n, lower values better."""

    updates: np.ndarray
    seconds: np.ndarray
    value: np.ndarray

    def late(self) -> float:
        """The mean over the last fifth of the run: single evaluations are noisy at small batches."""
        return float(self.value[self.updates > (1 - LATE) * self.updates[-1]].mean())

    def best(self) -> float:
        return float(self.value.min())

    def reaches(self, level: float, axis: str) -> float:
        """Updates or seconds to the first value at or under `level`, interpolated between evaluations; all of them if never."""
        x = self.updates if axis == "updates" else self.seconds
        below = np.flatnonzero(self.value <= level)
        if not len(below):
            return float(x[-1])
        k = int(below[0])
        if k == 0:
            return float(x[0])
        part = (self.value[k - 1] - level) / (self.value[k - 1] - self.value[k])
        return float(x[k - 1] + part * (x[k] - x[k - 1]))


class Measure(ABC):
    """How a claim is decided. `arms` says how many runs of a seed it compares; `metric` what of them."""

    arms: ClassVar[int] = 2
    metric: str

    @abstractmethod
    def contrast(self, runs: Sequence[Series]) -> float:
        """Positive where the first arm does what the paper says of it."""

    def shown(self, contrast: float) -> float:
        """The contrast as the number that a reader sees."""
        return contrast

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What that number is."""


@dataclass(frozen=True)
class Better(Measure):
    """The first arm ends with a better value than the second."""

    metric: str

    def contrast(self, runs: Sequence[Series]) -> float:
        return runs[1].late() - runs[0].late()

    @property
    def meaning(self) -> str:
        return f"lead in {self.metric}"


@dataclass(frozen=True)
class BetterAtBest(Measure):
    """The first arm's best value is better than the second's."""

    metric: str

    def contrast(self, runs: Sequence[Series]) -> float:
        return runs[1].best() - runs[0].best()

    @property
    def meaning(self) -> str:
        return f"lead in best {self.metric}"


@dataclass(frozen=True)
class Ahead(Measure):
    """The first arm is better than the second after equally many updates, on average over the run."""

    metric: str

    def contrast(self, runs: Sequence[Series]) -> float:
        first, second = runs
        x = np.unique(np.concatenate([first.updates, second.updates]))
        x = x[x >= max(first.updates[0], second.updates[0])]  # past the end of a run that diverged, its last value stands
        return float((np.interp(x, second.updates, second.value) - np.interp(x, first.updates, first.value)).mean())

    @property
    def meaning(self) -> str:
        return f"mean lead in {self.metric} over the run"


@dataclass(frozen=True)
class Faster(Measure):
    """The first arm needs fewer updates (or seconds) than the second to the best value that both reach.

    Where the first arm comes to the second's best, that is the share of the second's way which it needs; where it does not,
    the second is measured at the first's best, so that a slower arm shows a share above 1.
    """

    metric: str
    axis: str = "updates"

    def contrast(self, runs: Sequence[Series]) -> float:
        level = max(runs[0].best(), runs[1].best())
        return -float(np.log(runs[0].reaches(level, self.axis) / runs[1].reaches(level, self.axis)))

    def shown(self, contrast: float) -> float:
        return float(np.exp(-contrast))

    @property
    def meaning(self) -> str:
        return f"share of the other's {self.axis} to equal {self.metric}"


@dataclass(frozen=True)
class LosesLess(Measure):
    """From the second run to the first, arm one loses less than arm two does from the fourth to the third."""

    metric: str
    arms: ClassVar[int] = 4

    def contrast(self, runs: Sequence[Series]) -> float:
        return (runs[2].late() - runs[3].late()) - (runs[0].late() - runs[1].late())

    @property
    def meaning(self) -> str:
        return f"smaller loss of {self.metric}"


@dataclass(frozen=True)
class Steadier(Measure):
    """Over the five settings of the first five arms, best values lie closer together than over those of the last five."""

    metric: str
    arms: ClassVar[int] = 10

    def contrast(self, runs: Sequence[Series]) -> float:
        best = np.array([run.best() for run in runs]).reshape(2, 5)
        first, second = np.ptp(best, axis=1)
        return float(second - first)

    @property
    def meaning(self) -> str:
        return f"smaller spread of best {self.metric}"
