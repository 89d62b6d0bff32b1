"""What a claim is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnexp.evidence.effects import Measure


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that runs can decide.

    Attributes:
        id: section and letter; never reused.
        where: section, figure or table of the paper.
        says: the claim in our words.
        experiment: the preset whose runs decide it.
        measure: the effect computed from the runs of one seed.
        arms: for each run that the measure compares, the columns and values that select it among the experiment's runs.
    """

    id: str
    where: str
    says: str
    experiment: str
    measure: Measure
    arms: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if not self.measure.takes(len(self.arms)):
            raise ValueError(f"claim {self.id}: {type(self.measure).__name__} does not take {len(self.arms)} arms")


def arm(norm: str, batch_size: int, **more: Any) -> dict[str, Any]:
    """The columns that select an arm: norm, batch size, and further configuration keys such as `**{"norm.gain": 0.1}`."""
    return {"norm.name": norm, "batch_size": batch_size, **more}
