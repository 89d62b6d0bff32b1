"""From tables to verdicts: one effect per seed, the paired tests of lnexp.evidence.stats, Holm over the list, the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from lnexp import paths
from lnexp.evidence.catalog import SCALES, TRIALS, exists
from lnexp.evidence.claims import CLAIMS
from lnexp.evidence.claims.base import Claim
from lnexp.evidence.claims.history import fixed
from lnexp.evidence.claims.measured import Effects, Runs, effects
from lnexp.evidence.stats import ALPHA, ALPHA_EQUIVALENCE, POWER, Paired, holm, paired, power, verdict
from lnexp.evidence.tables import load


def ledger(results: str | Path = paths.RESULTS, scale: str | None = None, claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """The verdict on every claim, one row each, in the order of `claims`.

    Args:
        results: the folder that holds tables/.
        scale: None takes, for each claim, the strongest scale at which all its arms have its deciding seeds.
        claims: whose verdicts; Holm's correction is over those that have runs, the paper's, the extensions and each study apart.
    """

    @cache
    def runs(experiment: str, scale: str) -> Runs:
        return Runs(load(experiment, scale, results) if exists(experiment) else pd.DataFrame())

    def strongest(claim: Claim, experiment: str, seeds: Iterable[int], least: int) -> Effects:
        found = [effects(claim, runs(experiment, s), seeds) for s in ([scale] if scale else SCALES)]
        return next((f for f in found if len(f.of_seed) >= least), max(found, key=lambda f: (len(f.of_seed), bool(f.missing))))

    deciding = [strongest(claim, claim.experiment, claim.seeds, len(claim.seeds)) for claim in claims]
    outcomes = [paired(found.of_seed.to_numpy(), claim.margin) for claim, found in zip(claims, deciding, strict=True)]
    complete = np.array([len(found.of_seed) == len(claim.seeds) for claim, found in zip(claims, deciding, strict=True)], bool)
    adjusted = np.full((2, len(claims)), np.nan)
    for name in {claim.list for claim in claims}:
        tested = complete & np.array([claim.list == name for claim in claims], bool)
        adjusted[0, tested] = holm(np.array([o.p_t for o in outcomes])[tested])
        adjusted[1, tested] = holm(np.array([o.p_t_against for o in outcomes])[tested])
    rows = []
    for claim, found, outcome, whole, p in zip(claims, deciding, outcomes, complete, adjusted.T, strict=True):
        others = set(range(TRIALS)) - set(claim.seeds)
        explored = strongest(claim, claim.explored or claim.experiment, others, 2)
        word = verdict(outcome, p[0], p[1], found.bound) if whole and not is_smoke(found) else "not run"
        rows.append(_row(claim, found, outcome, word, p) | _exploration(claim, explored))
    return pd.DataFrame(rows)


def is_smoke(found: Effects) -> bool:
    """Whether the runs are of scale=smoke, which are no evidence."""
    return "scale" in found.runs and bool((found.runs["scale"] == "smoke").any())


def definitions(claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """The definition of every claim, as JSON, and its sha256: the content of results/definitions.csv."""
    rows = [(c.id, c.digest(), json.dumps(c.definition(), sort_keys=True)) for c in claims]
    return pd.DataFrame(rows, columns=["id", "sha256", "definition"])


def _row(claim: Claim, found: Effects, outcome: Paired, word: str, holm: np.ndarray) -> dict[str, object]:
    tested = outcome.n > 1
    against = tested and outcome.mean < 0  # p values are those of the direction of the effect
    commits = [str(commit).split("; ")[0] for commit in found.runs["commit"]] if "commit" in found.runs else []
    return {
        "id": claim.id,
        "list": claim.list,
        "where": claim.where,
        "says": claim.says,
        "verdict": word,
        "note": _note(claim, found, outcome, word),
        "effect": _shown(claim, outcome.mean, found.bound) if outcome.n else "",
        "interval": _interval(claim, outcome, word),
        "measure": claim.measure.meaning,
        "margin": f"{claim.margin:.3g}",
        "n": outcome.n,
        "seeds": _span(claim.seeds),
        "p_t": f"{outcome.p_t_against if against else outcome.p_t:.2g}" if tested else "",
        "p_holm": f"{holm[int(against)]:.2g}" if np.isfinite(holm[0]) else "",
        "p_flip": f"{outcome.p_flip_against if against else outcome.p_flip:.2g}" if tested else "",
        "power": f"{outcome.power:.2f}" if tested else "",
        "n_needed": str(outcome.n_needed) if tested else "",
        "fixed": fixed(claim.id, claim.digest(), commits),
        "scale": found.runs["scale"].iloc[0] if outcome.n else "",
        "data": found.runs["data"].iloc[0] if outcome.n else "",
        "experiment": claim.experiment,
    }


def _note(claim: Claim, found: Effects, outcome: Paired, word: str) -> str:
    """What a reader must know beside the verdict."""
    if word == "not run":
        if is_smoke(found):
            return "runs of scale=smoke are no evidence"
        if found.missing:
            return found.missing
        seeds = f"{outcome.n} of {len(claim.seeds)} deciding seeds" if outcome.n else f"no runs at seeds {_span(claim.seeds)}"
        return seeds if exists(claim.experiment) else "its preset is still to come"
    if word == "inconclusive" and found.bound:
        return "a bound: a run had passed the first level at its first evaluation, or diverged"
    if word == "inconclusive" and outcome.power < POWER:
        return f"cannot be decided at n = {outcome.n} ({POWER:.0%} power needs n = {outcome.n_needed})"
    if word in ("supported", "contradicted") and abs(outcome.mean) < claim.margin:
        return "smaller than the margin of equivalence"
    return ""


def _exploration(claim: Claim, explored: Effects) -> dict[str, object]:
    """The effect of runs that do not decide the claim, and the power of the deciding n (n needed) with their spread."""
    if len(explored.of_seed) < 2:
        return {"exploration": "", "explored": "", "planned": ""}
    outcome = paired(explored.of_seed.to_numpy(), claim.margin)
    text = f"{_shown(claim, outcome.mean, explored.bound)} ({_interval(claim, outcome)})"
    planned = f"{power(claim.margin, outcome.sd, len(claim.seeds)):.2f} ({outcome.n_needed})"
    return {
        "planned": planned,
        "exploration": text,
        "explored": f"{claim.explored or claim.experiment}, seeds {_span(explored.of_seed.index)}",
    }


def _shown(claim: Claim, mean: float, bound: int) -> str:
    """The effect as a reader sees it, with "at most" or "at least" where it is a bound."""
    rises = claim.measure.shown(1.0) > claim.measure.shown(0.0)
    word = {0: "", 1: "at least " if rises else "at most ", -1: "at most " if rises else "at least "}[bound]
    return f"{word}{claim.measure.shown(mean):.3g}"


def _interval(claim: Claim, outcome: Paired, word: str = "") -> str:
    """The interval of the rule that gave the verdict: 1 - 2 ALPHA, or 1 - 2 ALPHA_EQUIVALENCE where it is "equivalent"."""
    low, high = outcome.interval(ALPHA_EQUIVALENCE if word == "equivalent" else ALPHA)
    low, high = sorted((claim.measure.shown(low), claim.measure.shown(high)))
    return f"{low:.3g} to {high:.3g}" if outcome.n > 1 else ""


def _span(seeds: Iterable[int]) -> str:
    """Seeds as text: "5 to 9" for consecutive ones."""
    seeds = sorted(int(seed) for seed in seeds)
    consecutive = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]} to {seeds[-1]}" if consecutive else ", ".join(map(str, seeds))
