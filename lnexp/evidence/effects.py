"""Effects: a number computed from the runs of one seed, one run per arm; positive where the claim holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.optimize import isotonic_regression

LATE = 0.2  # fraction of a run, at its end, over which a final value is averaged
LEVELS = np.linspace(0.1, 0.9, 17)  # of the descent that two runs share, 0 its start and 1 its end
NOISE = 8.0  # a run has learned where its monotone fit descends by more than this many standard deviations of the residuals


@dataclass(frozen=True)
class Series:
    """One metric of one run over its evaluations, lower values better.

    Attributes:
        updates: updates_n, ascending.
        cpu_seconds: processor time of training alone, cpu_seconds_n; NaN where it was not recorded.
        value: value_n. The last value of a run that diverged is the worst value of any run of the claim.
        diverged: whether training ended with a loss that was not finite.
    """

    updates: np.ndarray
    cpu_seconds: np.ndarray
    value: np.ndarray
    diverged: bool = False

    def late(self) -> float:
        """The mean over the last fifth of the run; a run that diverged has its last value, the worst.

        The minimum over evaluations would fall with their noise; a mean is unbiased, whatever the noise of an arm.
        """
        if self.diverged:
            return float(self.value[-1])
        return float(self.value[self.updates > (1 - LATE) * self.updates[-1]].mean())


@dataclass(frozen=True)
class Measure(ABC):
    """How a claim is decided.

    Attributes:
        metric: "<split>/<name>", as in the tables.
        better: which direction of the metric is good. `contrast` gets values whose sign makes lower ones better.
        revision: part of a claim's definition; raise it when a change of code changes effects.
    """

    metric: str
    better: Literal["lower", "higher"]
    revision: ClassVar[int] = 1

    @abstractmethod
    def contrast(self, runs: Sequence[Series]) -> float:
        """The effect: positive where the claim holds of the runs of one seed, given in the order of the claim's arms.

        NaN where the runs lack what it needs.
        """

    def bound(self, runs: Sequence[Series]) -> int:
        """1 where the true effect may be larger than `contrast`, -1 where it may be smaller, 0 where it is neither."""
        return 0

    def takes(self, arms: int) -> bool:
        """Whether the measure compares that number of arms."""
        return arms == 2

    @property
    def timed(self) -> bool:
        """Whether it compares times, which only runs of one machine can decide."""
        return False

    def shown(self, contrast: float) -> float:
        """The effect in the unit that `meaning` describes."""
        return contrast

    @property
    @abstractmethod
    def meaning(self) -> str:
        """A description of `shown`."""

    def definition(self) -> dict[str, Any]:
        """Everything that the effect depends on, as JSON."""
        constants = {"late": LATE, "levels": [round(float(level), 6) for level in LEVELS], "noise": NOISE}
        return {"measure": type(self).__name__, "revision": self.revision, **asdict(self), "constants": constants}


@dataclass(frozen=True)
class Better(Measure):
    """The first arm ends with a better value than the second: difference of the means over the last fifth of the runs."""

    def contrast(self, runs: Sequence[Series]) -> float:
        return runs[1].late() - runs[0].late()

    @property
    def meaning(self) -> str:
        return f"lead in {self.metric} at the end"


@dataclass(frozen=True)
class Ahead(Measure):
    """The first arm is better than the second after equally many updates: mean difference over the run.

    Curves are interpolated between evaluations. After a run has ended (it diverged), its last value stands.

    Attributes:
        until: only the first updates, up to this one; 0 for all.
    """

    until: int = 0

    def contrast(self, runs: Sequence[Series]) -> float:
        first, second = runs
        x = np.unique(np.concatenate([first.updates, second.updates]))
        x = x[(x >= max(first.updates[0], second.updates[0])) & (x <= (self.until or x[-1]))]
        if not len(x):
            return np.nan
        return float((np.interp(x, second.updates, second.value) - np.interp(x, first.updates, first.value)).mean())

    @property
    def meaning(self) -> str:
        return f"mean lead in {self.metric} over the {f'first {self.until:,} updates' if self.until else 'run'}"


@dataclass(frozen=True)
class Faster(Measure):
    r"""The first arm needs fewer updates, or less processor time, than the second to equal values.

    Each run is replaced by its monotone (isotonic) fit f. With the levels l_k, 17 from 10 to 90 % of the way from the worse of
    both starts to the worse of both ends, and t(l) the time at which f passes l, interpolated in log t between evaluations,

        effect = log(share) + mean_k log(t_second(l_k) / t_first(l_k)),    shown as the share of the second arm's time.

    Levels that one run never reaches do not count. A run that has passed a level at its first evaluation (left-censored) is
    given the time of that evaluation, so that the effect is a bound. A run that diverged reaches no level: it is given the
    time at which the other one ended, at all levels of the other's descent, a bound as well. Where neither run has learned,
    the effect is 0.

    Attributes:
        axis: the time axis.
        log: fits and levels in the logarithm of the metric, for curves that the paper draws on a logarithmic axis.
        share: the share that the claim states; 1 for "faster".
    """

    axis: Literal["updates", "cpu_seconds"] = "updates"
    log: bool = False
    share: float = 1.0
    revision: ClassVar[int] = 2

    def contrast(self, runs: Sequence[Series]) -> float:
        return self._compare(runs)[0] + float(np.log(self.share))

    def bound(self, runs: Sequence[Series]) -> int:
        return self._compare(runs)[1]

    @property
    def timed(self) -> bool:
        return self.axis == "cpu_seconds"

    def _compare(self, runs: Sequence[Series]) -> tuple[float, int]:
        """Mean log ratio of times and which way it is bounded."""
        times = [getattr(run, self.axis) for run in runs]
        if not all((t > 0).all() or (run.diverged and self.axis == "updates") for run, t in zip(runs, times, strict=True)):
            return np.nan, 0  # processor time was not recorded
        values = [run.value for run in runs]
        if self.log:
            least = min((v[v > 0].min() for v in values if (v > 0).any()), default=1.0)  # in place of a value that is exactly 0
            values = [np.log(np.maximum(v, least)) for v in values]
        fits = [-isotonic_regression(-value).x for value in values]
        start, end = max(f[0] for f in fits), max(f[-1] for f in fits)
        lost = [run.diverged for run in runs]
        if all(lost):
            return 0.0, 0
        if any(lost):
            other = fits[lost.index(False)]
            start, end = other[0], other[-1]
        elif not any(fit[0] - fit[-1] > NOISE * np.std(value - fit) for value, fit in zip(values, fits, strict=True)):
            return 0.0, 0  # both are flat: their fits descend by noise alone
        levels = start + (end - start) * LEVELS
        ends = np.log([float(t[-1]) for t in times])
        passed = [
            np.full(len(levels), ends.max()) if run.diverged else _crossings(t, fit, levels)
            for run, t, fit in zip(runs, times, fits, strict=True)
        ]
        early = [not run.diverged and fit[0] <= levels[0] for run, fit in zip(runs, fits, strict=True)]
        bound = int(early[0] or lost[1]) - int(early[1] or lost[0])
        return float((passed[1] - passed[0]).mean()), bound

    def shown(self, contrast: float) -> float:
        return float(self.share * np.exp(-contrast))

    @property
    def meaning(self) -> str:
        what = {"updates": "updates", "cpu_seconds": "processor time"}[self.axis]
        return f"share of the other's {what} to equal {self.metric}" + (f" (claimed: {self.share:g})" if self.share != 1 else "")


def _crossings(t: np.ndarray, fit: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The log times at which a non-increasing fit passes each level; the first or last time outside its range."""
    falling = fit - 1e-9 * max(fit[0] - fit[-1], 1e-12) * np.arange(len(fit))  # strictly, so that each level has one time
    return np.interp(-levels, -falling, np.log(t))


@dataclass(frozen=True)
class LosesLess(Measure):
    """The first half of the arms loses less than the second half, from the last arm of each half to its other arms.

    loss = mean over the others of their final value - final value of the last; effect = loss of the second half - of the first.
    Final values as in `Better`. A range over settings would grow with the noise of an arm; this is linear, so unbiased. A half
    with a run that diverged has the largest loss, the range of all final values.
    """

    revision: ClassVar[int] = 2

    def contrast(self, runs: Sequence[Series]) -> float:
        final = np.array([run.late() for run in runs]).reshape(2, -1)
        diverged = np.array([run.diverged for run in runs]).reshape(2, -1).any(axis=1)
        first, second = np.where(diverged, np.ptp(final), final[:, :-1].mean(1) - final[:, -1])
        return float(second - first)

    def takes(self, arms: int) -> bool:
        return arms >= 4 and arms % 2 == 0

    @property
    def meaning(self) -> str:
        return f"smaller loss of {self.metric}"


@dataclass(frozen=True)
class Cheaper(Measure):
    """An update of the first arm takes less processor time than one of the second: log ratio of the mean times."""

    def contrast(self, runs: Sequence[Series]) -> float:
        first, second = (float(run.cpu_seconds[-1] / run.updates[-1]) for run in runs)
        return float(np.log(second / first))

    @property
    def timed(self) -> bool:
        return True

    def shown(self, contrast: float) -> float:
        return float(np.exp(-contrast))

    @property
    def meaning(self) -> str:
        return "share of the other's processor time per update"


@dataclass(frozen=True)
class Reaches(Measure):
    """The final value of the only arm is at least as good as a number: for analyses whose outcome the paper states.

    Attributes:
        value: the number.
    """

    value: float = 0.0

    def contrast(self, runs: Sequence[Series]) -> float:
        sign = 1.0 if self.better == "lower" else -1.0
        return sign * self.value - runs[0].late()

    def takes(self, arms: int) -> bool:
        return arms == 1

    @property
    def meaning(self) -> str:
        return f"{self.metric} beyond {self.value:g}"
