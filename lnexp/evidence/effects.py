"""Effects: a number computed from the runs of one seed, one run per arm; positive where the claim holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LATE = 0.2  # fraction of a run, at its end, over which a final value is averaged


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


@dataclass(frozen=True)
class Measure(ABC):
    """How a claim is decided.

    Attributes:
        metric: "<split>/<name>", as in the tables.
        better: which direction of the metric is good. `contrast` gets values whose sign makes lower ones better.
    """

    metric: str
    better: Literal["lower", "higher"]

    @abstractmethod
    def contrast(self, runs: Sequence[Series]) -> float:
        """The effect: positive where the claim holds of the runs of one seed, given in the order of the claim's arms."""

    def takes(self, arms: int) -> bool:
        """Whether the measure compares that number of arms."""
        return arms == 2

    def shown(self, contrast: float) -> float:
        """The effect in the unit that `meaning` describes."""
        return contrast

    @property
    @abstractmethod
    def meaning(self) -> str:
        """A description of `shown`."""


@dataclass(frozen=True)
class Better(Measure):
    """The first arm ends with a better value than the second."""

    def contrast(self, runs: Sequence[Series]) -> float:
        return runs[1].late() - runs[0].late()

    @property
    def meaning(self) -> str:
        return f"lead in {self.metric}"


@dataclass(frozen=True)
class BetterAtBest(Measure):
    """The first arm's best value is better than the second's."""

    def contrast(self, runs: Sequence[Series]) -> float:
        return runs[1].best() - runs[0].best()

    @property
    def meaning(self) -> str:
        return f"lead in best {self.metric}"


@dataclass(frozen=True)
class Ahead(Measure):
    """The first arm is better than the second after equally many updates, on average over the run."""

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

    axis: Literal["updates", "seconds"] = "updates"

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

    def takes(self, arms: int) -> bool:
        return arms == 4

    def contrast(self, runs: Sequence[Series]) -> float:
        return (runs[2].late() - runs[3].late()) - (runs[0].late() - runs[1].late())

    @property
    def meaning(self) -> str:
        return f"smaller loss of {self.metric}"


@dataclass(frozen=True)
class Steadier(Measure):
    """The range of best values over the settings of the first half of the arms is smaller than over those of the second half."""

    def takes(self, arms: int) -> bool:
        return arms >= 4 and arms % 2 == 0

    def contrast(self, runs: Sequence[Series]) -> float:
        best = np.array([run.best() for run in runs]).reshape(2, -1)
        first, second = np.ptp(best, axis=1)
        return float(second - first)

    @property
    def meaning(self) -> str:
        return f"smaller spread of best {self.metric}"
