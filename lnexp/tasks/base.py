"""The contract of a task: data, model, loss, evaluations, samples. A task knows nothing of optimisers, logging or norms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from lnexp.data.batches import Batches, Share
from lnexp.errors import UserError
from lnexp.nn import Norm, NormError

Batch = dict[str, Tensor]
Loss = Tensor | tuple[Tensor, dict[str, Tensor]]  # the scalar to minimise, or that and its named parts, which are logged
When = Literal["start", "during", "end"]


class Setting(NamedTuple):
    """Where a task finds its data and where it computes.

    Attributes:
        data: the values of `data:`, see configs/data.
        data_dir: downloads and prepared data.
        device: a torch device.
    """

    data: Mapping[str, Any]
    data_dir: Path
    device: str


@dataclass(frozen=True)
class Evaluation:
    """Metrics that are measured together.

    Attributes:
        name: prefix of the metrics, "<name>/<metric>": usually the split.
        measure: from a model in evaluation mode to its metrics. Random numbers that it draws from the global generators are the
            same under every norm.
        when: "start" (before the first update), "during" (every `eval_every` updates and after the last one), "end" (once, with
            the weights that were best by the first of the task's curves).
    """

    name: str
    measure: Callable[[nn.Module], Mapping[str, float]]
    when: tuple[When, ...] = ("during",)


@dataclass(frozen=True)
class Curve:
    """A metric worth drawing.

    Attributes:
        metric: "<evaluation>/<name>".
        label: axis label with the unit.
        better: which direction is better.
        where: the figure or table of the paper that shows it, or "extension".
    """

    metric: str
    label: str
    better: Literal["lower", "higher"]
    where: str

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`; False for NaN."""
        if best is None:
            return value == value
        return value < best if self.better == "lower" else value > best


class Task(ABC):
    """An experiment of the paper.

    The constructor takes a `Setting` and, as keyword arguments, the keys of `task:` in configs/task/<name>.yaml.

    Class attributes:
        name: as on the command line.
        revision: part of a run's identity; raise it when a change of code changes numbers beyond rounding.
        later_knobs: keys of `task:` added after the first runs were made, each with the value that those runs had; at that
            value they are omitted from the identity.
        calibration: (number of batches, batch size) of the training batches from which norms estimate population statistics
            before an evaluation.
        paper_data: names of the data sets that scale=paper accepts; () for any.
        curves: the metrics worth drawing.
        differences: each departure from the paper, one sentence each; printed in the report.
    """

    name: ClassVar[str]
    revision: ClassVar[int]
    later_knobs: ClassVar[dict[str, Any]] = {}
    calibration: ClassVar[tuple[int, int]] = (10, 1000)
    paper_data: ClassVar[tuple[str, ...]] = ()
    curves: tuple[Curve, ...]
    differences: ClassVar[tuple[str, ...]]

    @abstractmethod
    def build(self, norm: Norm) -> nn.Module:
        """The model; its own parameters are drawn from torch's global generator, equally under every norm."""

    @abstractmethod
    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        """The batches of an epoch, in an order that is a function of (seed, epoch); without a seed in the order of the data.

        With a seed the last incomplete batch is dropped. With share=(r, w), each batch holds the r-th of w equal parts.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The scalar to minimise, alone or with a dict of named scalar parts that are logged as "train/<part>"."""

    @abstractmethod
    def evaluations(self) -> tuple[Evaluation, ...]:
        """What is measured, in the order in which it is logged."""

    def samples(self, model: nn.Module, folder: Path) -> None:
        """Write what there is to look at (pictures, text) into `folder`, for a model in evaluation mode. Default: nothing."""
        return


def build_model(task: Task, norm: Norm) -> nn.Module:
    """The task's model under a norm. Raises a UserError if the norm does not fit a layer of it."""
    try:
        return task.build(norm)
    except NormError as error:
        raise UserError(str(error)) from error


def words(batch: Batch) -> int:
    """Number of tokens of all texts in a batch: the sum of its tensors "lengths_B" and "*_lengths_B" (on the CPU)."""
    return sum(int(lengths_B.sum()) for name, lengths_B in batch.items() if name.endswith("lengths_B"))
