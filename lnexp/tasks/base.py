"""What a task is: data, model, loss and measures. It knows nothing of optimisers, logging or norms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor, nn

from lnexp.nn import Norm

Batch = dict[str, Tensor]
Share = tuple[int, int]  # (rank, number of processes): the part of each batch that one process trains on


def words(batch: Batch) -> int:
    """Words of all texts in a batch, by their lengths: what is called lengths_B or ..._lengths_B, on the CPU; else 0."""
    return sum(int(lengths_B.sum()) for name, lengths_B in batch.items() if name.endswith("lengths_B"))


class Batches(Protocol):
    """The batches of one epoch: any of them at once, so that a resumed run does not read what it has seen."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int) -> Batch: ...


@dataclass(frozen=True)
class Curve:
    """A number worth drawing.

    Attributes:
        metric: "<split>/<name>", with a name that `evaluate` returns.
        label: axis text with the unit.
        better: which way is good.
        where: the figure or table of the paper that shows it, or "extension".
    """

    metric: str
    label: str
    better: Literal["lower", "higher"]
    where: str

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than the best so far; NaN never is."""
        if best is None:
            return value == value
        return value < best if self.better == "lower" else value > best


class Task(ABC):
    """An experiment of the paper. Its constructor takes the keys of `task:` in configs/task/<name>.yaml by name.

    Class attributes:
        name: as on the command line.
        revision: part of a run's identity; raise it when a change of code changes the numbers.
        starts: what is evaluated before the first update.
        splits: what is evaluated during training, in this order.
        finals: what is evaluated once at the end, with the weights that were best by the first of `curves`.
        calibration: (batches, cases in each) from which norms take population statistics before an evaluation.
        paper_data: names of the data that scale=paper is for, where the default of the task is a smaller set; () for any.
        curves: what is worth drawing.
        differences: every departure from the paper, a sentence each; printed in the report.
    """

    name: ClassVar[str]
    revision: ClassVar[int]
    starts: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[tuple[str, ...]]
    finals: ClassVar[tuple[str, ...]] = ()
    calibration: ClassVar[tuple[int, int]] = (10, 1000)
    paper_data: ClassVar[tuple[str, ...]] = ()
    curves: ClassVar[tuple[Curve, ...]]
    differences: ClassVar[tuple[str, ...]]

    @abstractmethod
    def build(self, norm: Norm) -> nn.Module:
        """The model, drawn from torch's global generator in the same way under every norm."""

    @abstractmethod
    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        """The batches of an epoch, in an order that follows from (seed, epoch) alone; seed None: the data's own order.

        Only whole batches are given when there is a seed. With share=(r, w), each batch holds the r-th of w equal parts.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """The measures of a model in evaluation mode on a split."""
