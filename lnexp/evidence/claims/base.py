"""What a claim is, and how it is defined beyond doubt."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from lnexp.evidence.catalog import exists, run_groups
from lnexp.evidence.effects import Measure
from lnexp.evidence.stats import MIN_SEEDS, RULE

FIRST = (0, 1, 2, 3, 4)  # seeds of claims whose measure is the one with which they were first run
NEW = (5, 6, 7, 8, 9)  # seeds of claims whose measure, or whose wording, is newer than the runs of seeds 0 to 4
SPEED = math.log(1.25)  # margin of equivalence of a share of time: between 1/1.25 and 1.25


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that runs can decide.

    Attributes:
        id: section and letter; never reused.
        where: section, figure or table of the paper.
        says: the claim in our words.
        experiment: the preset or analysis whose runs decide it; one that does not exist yet gives "not run".
        measure: the effect computed from the runs of one seed.
        arms: for each run that the measure compares, the columns and values that select it among the experiment's runs.
        seeds: the seeds that decide it; other seeds are exploration.
        margin: effects between -margin and margin are equivalent to none, in the unit of `Measure.contrast`.
        explored: the preset whose other seeds are shown as exploration; "" for `experiment`.
        extension: not a claim of the paper; extensions are tested as a list of their own.
        study: the study of ours that the claim belongs to; each study is a list of its own. "" for none.
    """

    id: str
    where: str
    says: str
    experiment: str
    measure: Measure
    arms: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    margin: float
    explored: str = ""
    extension: bool = False
    study: str = ""

    @property
    def list(self) -> str:
        """The list over which Holm's correction is made: "paper", "extension", or the name of a study."""
        return self.study or ("extension" if self.extension else "paper")

    def __post_init__(self) -> None:
        if not self.measure.takes(len(self.arms)):
            raise ValueError(f"claim {self.id}: {type(self.measure).__name__} does not take {len(self.arms)} arms")
        if self.margin <= 0:
            raise ValueError(f"claim {self.id}: the margin must be positive, not {self.margin:g}")
        if len(set(self.seeds)) < MIN_SEEDS:
            raise ValueError(f"claim {self.id}: at least {MIN_SEEDS} seeds must decide it, not {len(set(self.seeds))}")

    def definition(self) -> dict[str, Any]:
        """Everything that the verdict depends on beside the runs, as JSON; not the prose."""
        known = exists(self.experiment)
        groups = {scale: sorted(run_groups(self.experiment, scale)) for scale in ("paper", "desk")} if known else {}
        return {
            "measure": self.measure.definition(),
            "arms": [*self.arms],
            "seeds": [*self.seeds],
            "margin": self.margin,
            "list": self.list,
            "experiment": self.experiment,
            "run_groups": groups,
            "rule": RULE,
        }

    def digest(self) -> str:
        """The sha256 of the definition."""
        return hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Section:
    """A section of the paper: what its line in the report says, and its claims.

    Attributes:
        number, title: as in the paper.
        says: what the paper claims, in our words.
        size: our runs against the paper's.
        caveat: the first thing to know before using the verdicts.
        claims: in the order of the report.
        task: the task whose presets belong to the section; "" for none.
        analyses: the analyses that belong to it.
    """

    number: str
    title: str
    says: str
    size: str
    caveat: str
    claims: tuple[Claim, ...]
    task: str = ""
    analyses: tuple[str, ...] = ()


def arm(norm: str, batch_size: int, **more: Any) -> dict[str, Any]:
    """The columns that select an arm: norm, batch size, and further configuration keys such as `**{"norm.gain": 0.1}`."""
    return {"norm.name": norm, "batch_size": batch_size, **more}
