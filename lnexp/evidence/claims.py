"""The paper's claims, each with the two arms that decide it and a test fixed in advance. Verdicts are computed, never typed.

A measure (lnexp/measures.py) turns the runs of one seed, one for each arm, into a number that is positive where the paper is
right; the numbers of all seeds go through the paired tests of lnexp/stats.py. A run that diverged counts as the worst value that
any run of the claim has shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lnexp.evidence.effects import Ahead, Better, BetterAtBest, Faster, LosesLess, Measure, Series, Steadier
from lnexp.evidence.stats import Paired, paired
from lnexp.evidence.tables import load


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper that runs can decide.

    Attributes:
        id: section and number.
        where: section, figure or table.
        says: the claim in our words.
        experiment: the preset whose runs decide it.
        measure: how.
        arms: the values that pick each arm's runs among those of the experiment.
    """

    id: str
    where: str
    says: str
    experiment: str
    measure: Measure
    arms: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if len(self.arms) != self.measure.arms:
            raise ValueError(f"claim {self.id}: {self.measure} compares {self.measure.arms} arms, not {len(self.arms)}")


def arm(norm: str, batch_size: int, **more: Any) -> dict[str, Any]:
    return {"norm.name": norm, "batch_size": batch_size, **more}


def _permuted(letter: str, batch_size: int, other: str, measure: Measure, says: str) -> Claim:
    """A claim that the paper makes of recurrent nets in general (sections 1 and 3), put to permuted MNIST."""
    arms = (arm("ln", batch_size), arm(other, batch_size))
    sentence = f"Permuted MNIST, batch {batch_size}: the layer-normalised LSTM {says}."
    return Claim(f"pm-{letter}", "extension of sections 1 and 3", sentence, "permuted_mnist", measure, arms)


def _ranking(id: str, measure: Measure, says: str, experiment: str = "fig1_flickr8k", **more: Any) -> Claim:
    """A claim on order embeddings with layer normalisation against those without; the paper's own are decided on Flickr8k."""
    where = "section 6.1, Table 2" if measure.metric.startswith("test/") else "section 6.1, Figure 1"
    where = where if experiment == "fig1_flickr8k" else "extension of section 6.1"
    arms = (arm("ln", 128, **more), arm("none", 128, **more))
    return Claim(f"6.1{id}", where, f"Order embeddings: layer normalisation {says}.", experiment, measure, arms)


def _reading(id: str, measure: Measure, says: str, other: str) -> tuple[Claim, Claim]:
    """A claim on Figure 2's curves, LN against another arm: at one learning rate, as in the paper, and each at its own."""
    arms = (arm("ln", 64), arm(other, 64))
    return (
        Claim(f"6.2{id}", "section 6.2, Figure 2", f"Question answering: LN-LSTM {says}.", "fig2", measure, arms),
        Claim(
            f"6.2{id}-tuned",
            "extension of section 6.2",
            f"Question answering, each norm at its own learning rate: LN-LSTM {says}.",
            "fig2_tuned",
            measure,
            arms,
        ),
    )


def _sentences(id: str, measure: Measure, says: str, experiment: str = "fig3_books") -> Claim:
    """A claim on the curves of Figure 3 and the rows of Table 3, with layer normalisation against without."""
    where = "section 6.3, Figure 3, Table 3" if experiment == "fig3_books" else "extension of section 6.3"
    sentence = f"Skip-thoughts: layer normalisation {says}."
    return Claim(f"6.3{id}", where, sentence, experiment, measure, (arm("ln", 64), arm("none", 64)))


PROBES = {
    "sick_pearson": "Pearson's r on SICK",
    "sick_mse": "squared error on SICK",
    "mr_accuracy": "accuracy on MR",
    "cr_accuracy": "accuracy on CR",
    "subj_accuracy": "accuracy on SUBJ",
    "mpqa_accuracy": "accuracy on MPQA",
}
STAND_INS = {name: what for name, what in PROBES.items() if name[:2] in ("mr", "cr")} | {"trec_accuracy": "accuracy on TREC"}
GAINS = (0.01, 0.1, 0.5, 1.0, 2.0)


CLAIMS: tuple[Claim, ...] = (
    _ranking("a", Ahead("valid/image_recall_sum"), "has the higher image-retrieval recall per update"),
    _ranking("b", Faster("valid/image_recall_at_1"), "needs fewer updates to an equal R@1"),
    _ranking("c", Faster("valid/image_recall_at_5"), "needs fewer updates to an equal R@5"),
    _ranking("d", Faster("valid/image_recall_at_10"), "needs fewer updates to an equal R@10"),
    _ranking("e", Faster("valid/image_recall_sum"), "needs fewer updates to an equally good model by validation"),
    _ranking("f", Faster("valid/image_recall_sum", "seconds"), "needs less training time to an equally good model by validation"),
    _ranking("g", Better("test/image_recall_sum"), "ends with the better image retrieval on test"),
    _ranking("h", Better("test/caption_recall_sum"), "ends with the better caption retrieval on test"),
    _ranking(
        "-emoji",
        Ahead("valid/image_recall_sum"),
        "has the higher recall per update on emoji (put after the runs were seen)",
        "fig1",
    ),
    *(
        _ranking(
            f"-{size}",
            Faster("valid/image_recall_sum"),
            f"needs fewer updates to an equally good model with {size} units",
            "order_width",
            **{"task.hidden_size": size},
        )
        for size in (256, 512)
    ),
    *(
        _ranking(
            f"-lr{rate:g}",
            Faster("valid/image_recall_sum"),
            f"needs fewer updates to an equally good model at learning rate {rate:g}, 256 units",
            "order_rates",
            **{"optimizer.lr": rate},
        )
        for rate in (0.0005, 0.002)
    ),
    Claim(
        "6.6a",
        "section 6.6, Figure 6",
        "At batch 128, layer normalisation trains faster than batch normalisation of all layers.",
        "fig6",
        Faster("train/nll"),
        (arm("ln", 128), arm("bn", 128)),
    ),
    Claim(
        "6.6b",
        "section 6.6, Figure 6",
        "At batch 4, layer normalisation trains faster than batch normalisation of all layers.",
        "fig6",
        Faster("train/nll"),
        (arm("ln", 4), arm("bn", 4)),
    ),
    Claim(
        "6.6c",
        "section 6.6, Figure 6",
        "Layer normalisation is robust to the batch size: from 128 to 4 its test error grows less than batch normalisation's.",
        "fig6",
        LosesLess("test/error"),
        (arm("ln", 4), arm("ln", 128), arm("bn", 4), arm("bn", 128)),
    ),
    Claim(
        "6.6d",
        "Figure 6, read off",
        "At batch 4, layer normalisation ends with a lower test error than batch normalisation.",
        "fig6",
        Better("test/error"),
        (arm("ln", 4), arm("bn", 4)),
    ),
    Claim(
        "6.6e",
        "Figure 6, read off",
        "At batch 128, layer normalisation trains faster than the net without normalisation.",
        "fig6",
        Faster("train/nll"),
        (arm("ln", 128), arm("none", 128)),
    ),
    *_reading("a", BetterAtBest("valid/error"), "has a lower best error than LSTM", "none"),
    *_reading("b", BetterAtBest("valid/error"), "has a lower best error than BN-LSTM", "bn"),
    *_reading("c", BetterAtBest("valid/error"), "has a lower best error than BN-everywhere", "bn_everywhere"),
    *_reading("d", Faster("valid/error"), "needs fewer updates than LSTM to an equal error", "none"),
    *_reading("e", Faster("valid/nll"), "needs fewer updates than LSTM to an equal NLL", "none"),
    Claim(
        "6.2f",
        "section 6.2",
        "Question answering: the best error of LN-LSTM is lower with an initial gain of 1 than of 0.1.",
        "gain_sensitivity",
        BetterAtBest("valid/error"),
        tuple(arm("ln", 64, **{"norm.gain": gain}) for gain in (1.0, 0.1)),
    ),
    Claim(
        "6.2g",
        "extension of section 6.2",
        "Question answering: the best error hangs less on the initial gain under layer than under batch normalisation.",
        "gain_sensitivity",
        Steadier("valid/error"),
        tuple(arm(norm, 64, **{"norm.gain": gain}) for norm in ("ln", "bn") for gain in GAINS),
    ),
    _sentences("a", Faster("valid/nll"), "needs fewer updates to an equal validation NLL"),
    *(
        _sentences(letter, Faster(f"probes/{probe}"), f"needs fewer updates to an equal {what}")
        for letter, (probe, what) in zip("bcdefg", PROBES.items(), strict=True)
    ),
    *(
        _sentences(letter, Better(f"probes/{probe}"), f"ends with the better {what}")
        for letter, (probe, what) in zip("hijklm", PROBES.items(), strict=True)
    ),
    _sentences("-desk-a", Faster("valid/nll"), "needs fewer updates to an equal validation NLL, a small encoder", "fig3"),
    *(
        _sentences(f"-desk-{letter}", Better(f"probes/{probe}"), f"ends with the better {what}, a small encoder", "fig3")
        for letter, (probe, what) in zip("bcd", STAND_INS.items(), strict=True)
    ),
    _permuted("a", 100, "none", Faster("valid/accuracy"), "needs fewer updates than the plain one"),
    _permuted("b", 100, "none", Faster("valid/accuracy", "seconds"), "needs less training time than the plain one"),
    _permuted("c", 100, "bn", Faster("valid/accuracy"), "needs fewer updates than the batch-normalised one"),
    _permuted("d", 16, "none", Better("valid/accuracy"), "ends better than the plain one"),
    _permuted("e", 16, "bn", Better("valid/accuracy"), "ends better than the batch-normalised one"),
    _permuted("f", 4, "bn", Better("valid/accuracy"), "ends better than the batch-normalised one"),
)


def better_of(task: str, metric: str) -> str:
    """Which way a metric is good, as its task says."""
    from lnexp.tasks import TASKS

    return next(curve.better for curve in TASKS[task].curves if curve.metric == metric)


def contrasts(claim: Claim, frame: pd.DataFrame) -> pd.Series:
    """The claim's contrast for every seed that has a run in each arm, from the frame of `results.load`."""
    frame = frame[(frame["metric"] == claim.measure.metric) & (frame["step"] > 0)]  # not what is there before any update
    if frame.empty:
        return pd.Series(dtype=float)
    sign = 1.0 if better_of(frame["task.name"].iloc[0], claim.measure.metric) == "lower" else -1.0
    frame = frame.assign(value=sign * frame["value"])
    of_arm = [frame[np.logical_and.reduce([frame[k] == v for k, v in arm.items()])] for arm in claim.arms]
    worst = max((float(rows["value"].max()) for rows in of_arm if len(rows)), default=np.nan)

    def series(rows: pd.DataFrame) -> Series:
        if rows["id"].nunique() != 1:
            raise ValueError(f"claim {claim.id}: several runs of one seed match one arm: {sorted(rows['id'].unique())}")
        rows = rows.sort_values("step")
        value = rows["value"].fillna(worst).to_numpy()
        if (rows["status"] == "diverged").any():
            value = np.append(value[:-1], worst) if len(value) > 1 else np.array([worst])
        return Series(rows["step"].to_numpy(), rows["seconds"].to_numpy(), value)

    seeds = sorted(set.intersection(*(set(rows["seed"]) for rows in of_arm)))
    values = {s: claim.measure.contrast([series(rows[rows["seed"] == s]) for rows in of_arm]) for s in seeds}
    return pd.Series(values, dtype=float)


def decide(claim: Claim, frame: pd.DataFrame) -> Paired:
    """The verdict on a claim from an experiment's runs."""
    return paired(contrasts(claim, frame).to_numpy())


def ledger(results: Any = None, scale: str | None = None) -> pd.DataFrame:
    """One row a claim: what it says, what came out, at which scale, on which data, over how many seeds."""
    rows, frames = [], {}
    for claim in CLAIMS:
        if claim.experiment not in frames:
            frames[claim.experiment] = load(claim.experiment, scale, **({"results": results} if results else {}))
        frame = frames[claim.experiment]
        outcome, shown = decide(claim, frame), claim.measure.shown
        known = outcome.n > 0
        low, high = sorted((shown(outcome.low), shown(outcome.high)))
        rows.append(
            {
                "id": claim.id,
                "where": claim.where,
                "says": claim.says,
                "verdict": outcome.verdict,
                "effect": f"{shown(outcome.mean):.3g}" if known else "",
                "interval": f"{low:.3g} to {high:.3g}" if outcome.n > 1 else "",
                "measure": claim.measure.meaning,
                "n": outcome.n,
                "p_t": f"{outcome.p_t:.2g}" if outcome.n > 1 else "",
                "p_flip": f"{outcome.p_flip:.2g}" if outcome.n > 1 else "",
                "scale": frame["scale"].iloc[0] if known else "",
                "data": frame["data"].iloc[0] if known else "",
                "experiment": claim.experiment,
            }
        )
    return pd.DataFrame(rows)
