"""Recompute every verdict of claims.csv from the tables, in pandas and scipy alone, and report differences.

A second implementation for checking the first: it shares no code with lnexp. What it needs to know of a claim it reads from
results/definitions.csv. Exit code 1 if a verdict, an effect or a p value differs.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

SCALES = ("paper", "desk")


def tables(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs and all measurements after the first update, of every task."""
    runs = pd.concat([pd.read_csv(p, dtype={"family": str}) for p in sorted((results / "tables").glob("*_runs.csv"))])
    rows = [pd.read_csv(p.with_name(p.name.replace("_runs", ""))) for p in sorted((results / "tables").glob("*_runs.csv"))]
    measured = pd.concat(rows)
    measured["metric"] = measured["split"] + "/" + measured["metric"]
    return runs, measured[measured["step"] > 0]


def read_definitions(results: Path) -> dict[str, dict]:
    """The definition of each claim, by id."""
    rows = pd.read_csv(results / "definitions.csv")
    return {id: json.loads(text) for id, text in zip(rows["id"], rows["definition"], strict=True)}


def monotone(y: list[float]) -> np.ndarray:
    """The non-increasing least-squares fit: min over starts a <= k of max over ends b >= k of mean(y[a..b])."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    n = len(y)
    mean = [[(total[b + 1] - total[a]) / (b - a + 1) if b >= a else -np.inf for b in range(n)] for a in range(n)]
    return np.array([min(max(mean[a][b] for b in range(k, n)) for a in range(k + 1)) for k in range(n)])


def time_of(level: float, t: np.ndarray, fit: np.ndarray) -> float:
    """The log time at which a fit passes a level: between the last point above it and the first at or under it."""
    if level >= fit[0] or level <= fit[-1]:
        return float(np.log(t[0] if level >= fit[0] else t[-1]))
    k = int(np.argmax(fit <= level))
    part = (fit[k - 1] - level) / (fit[k - 1] - fit[k])
    return float(np.log(t[k - 1]) + part * (np.log(t[k]) - np.log(t[k - 1])))


def late(run: dict) -> float:
    if run["diverged"]:
        return float(run["y"][-1])
    return float(np.mean([y for t, y in zip(run["t"], run["y"], strict=True) if t > 0.8 * run["t"][-1]]))


def logs_or_values(m: dict, runs: list[dict]) -> list[np.ndarray]:
    """The values of runs, or their logarithms; in place of a value that is exactly 0 stands the smallest positive one."""
    if not m["log"]:
        return [r["y"] for r in runs]
    least = min([v for r in runs for v in r["y"] if v > 0], default=1.0)
    return [np.log([max(v, least) for v in r["y"]]) for r in runs]


def learned(fit: np.ndarray, values: np.ndarray) -> bool:
    """Whether a monotone fit descends by more than 8 standard deviations of its residuals."""
    rest = np.array(values) - np.array(fit)
    return fit[0] - fit[-1] > 8 * np.sqrt(np.mean((rest - rest.mean()) ** 2))


def faster(m: dict, a: dict, b: dict) -> float:
    time = "t" if m["axis"] == "updates" else "cpu"
    if np.isnan(a[time]).any() or np.isnan(b[time]).any():
        return np.nan
    y = logs_or_values(m, [a, b])
    fit = [monotone(list(v)) for v in y]
    if a["diverged"] and b["diverged"]:
        return float(np.log(m["share"]))
    if a["diverged"] or b["diverged"]:
        kept = fit[1] if a["diverged"] else fit[0]
        start, end = kept[0], kept[-1]
    else:
        if not any(learned(f, v) for v, f in zip(y, fit, strict=True)):
            return float(np.log(m["share"]))
        start, end = max(f[0] for f in fit), max(f[-1] for f in fit)
    last = np.log(max(a[time][-1], b[time][-1]))
    logs = []
    for k in range(17):
        level = start + (end - start) * (0.1 + 0.05 * k)
        ta, tb = (last if r["diverged"] else time_of(level, r[time], f) for r, f in zip((a, b), fit, strict=True))
        logs.append(tb - ta)
    return float(np.mean(logs) + np.log(m["share"]))


def effect(m: dict, runs: list[dict]) -> float:
    """The effect of one seed, by the name of its measure."""
    if m["measure"] == "Better":
        return late(runs[1]) - late(runs[0])
    if m["measure"] == "LosesLess":
        half = len(runs) // 2
        final = [late(r) for r in runs]
        losses = [
            max(final) - min(final)
            if any(r["diverged"] for r in part)
            else np.mean([late(r) for r in part[:-1]]) - late(part[-1])
            for part in (runs[:half], runs[half:])
        ]
        return float(losses[1] - losses[0])
    if m["measure"] == "Faster":
        return faster(m, *runs)
    if m["measure"] == "Ahead":
        x = sorted(set(runs[0]["t"]) | set(runs[1]["t"]))
        x = [v for v in x if v >= max(r["t"][0] for r in runs) and (not m["until"] or v <= m["until"])]
        return float(np.mean([np.interp(v, runs[1]["t"], runs[1]["y"]) - np.interp(v, runs[0]["t"], runs[0]["y"]) for v in x]))
    if m["measure"] == "Cheaper":
        first, second = (r["cpu"][-1] / r["t"][-1] for r in runs)
        return float(np.log(second) - np.log(first))
    if m["measure"] == "Reaches":
        return m["value"] * (1 if m["better"] == "lower" else -1) - late(runs[0])
    if m["measure"] == "ExpectedBest":
        values = [late(r) if m["over"] == "end" or r["diverged"] else float(np.mean(r["y"])) for r in runs]
        half = len(runs) // 2
        first, second = (
            np.mean([min(subset) for subset in itertools.combinations(part, m["trials"])])
            for part in (values[:half], values[half:])
        )
        return float(second - first)
    raise ValueError(f"no measure {m['measure']} here; write it")


def bound(m: dict, runs: list[dict]) -> int:
    """Of one seed: 1 where the true effect may be larger, -1 where it may be smaller, 0 where it is neither."""
    if m["measure"] != "Faster" or any(np.isnan(r["t" if m["axis"] == "updates" else "cpu"]).any() for r in runs):
        return 0
    lost = [r["diverged"] for r in runs]
    fits = [monotone(list(v)) for v in logs_or_values(m, runs)]
    if all(lost) or (not any(lost) and not any(learned(f, v) for f, v in zip(fits, logs_or_values(m, runs), strict=True))):
        return 0
    of = [f for f, gone in zip(fits, lost, strict=True) if not gone]
    start, end = max(f[0] for f in of), max(f[-1] for f in of)
    early = [not gone and f[0] <= start + (end - start) * 0.1 for f, gone in zip(fits, lost, strict=True)]
    return int(early[0] or lost[1]) - int(early[1] or lost[0])


def effects(definition: dict, runs: pd.DataFrame, measured: pd.DataFrame) -> tuple[np.ndarray, int]:
    """The effects of the deciding seeds, at the strongest scale that has them all, else at the one that has most; their bound."""
    m, best = definition["measure"], (np.array([]), 0)
    for scale in SCALES:
        group = runs[runs["family"].isin(definition["run_groups"].get(scale, [])) & runs["seed"].isin(definition["seeds"])]
        rows = measured[(measured["metric"] == m["metric"]) & measured["id"].isin(group["id"])]
        group = group[group["id"].isin(rows["id"]) | (group["status"] == "diverged")]
        if group.empty:
            continue
        arms = [group[np.all([group[k] == v for k, v in arm.items()], axis=0)] for arm in definition["arms"]]
        used = rows[rows["id"].isin([id for arm in arms for id in arm["id"]])]
        sign = 1 if m["better"] == "lower" else -1
        worst = (sign * used.loc[np.isfinite(used["value"]), "value"]).max()
        found, bounds = [], set()
        for seed in definition["seeds"]:
            same = [arm[arm["seed"] == seed] for arm in arms]
            if any(len(arm) != 1 for arm in same):
                continue
            series = []
            for arm in same:
                curve = used[used["id"] == arm["id"].item()].sort_values("step")
                t, raw = curve["step"].to_numpy(float), curve["value"].to_numpy(float)
                cpu = curve["cpu_seconds"].to_numpy(float) if "cpu_seconds" in curve else np.full(len(t), np.nan)
                if not len(t):  # it diverged before any evaluation
                    t, raw, cpu = np.array([1.0]), np.array([np.nan]), np.array([np.nan])
                y = np.where(np.isfinite(raw), sign * raw, worst)
                diverged = arm["status"].item() == "diverged"
                y = np.append(y[:-1], worst) if diverged else y
                series.append({"t": t, "y": y, "cpu": cpu, "diverged": diverged})
            found.append(effect(m, series))
            bounds |= {bound(m, series)} - {0}
        found_here = np.array([value for value in found if not np.isnan(value)])
        timed = m["measure"] == "Cheaper" or m.get("axis") == "cpu_seconds"
        compared = pd.concat(arms)
        if timed and len(compared[["machine", "device", "threads", "torch"]].drop_duplicates()) > 1:
            found_here = np.array([])
        if "data_digest" in compared and compared["data_digest"].dropna().nunique() > 1:
            found_here = np.array([])
        if compared["dirty"].astype(str).str.contains("True").any():
            found_here = np.array([])
        here = found_here, bounds.pop() if len(bounds) == 1 else 0
        if len(found_here) == len(definition["seeds"]):
            return here
        best = max(best, here, key=lambda pair: len(pair[0]))
    return best


def flips(d: np.ndarray) -> float:
    """The exact sign-flip test, by enumeration."""
    sums = [sum(s * v for s, v in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=len(d))]
    return float(np.mean(np.array(sums) >= sum(d) - 1e-12 * sum(abs(d))))


def t_test(d: np.ndarray, value: float, alternative: str) -> float:
    """p of the one-sided t test; 0 or 1 where all effects are the same number, as in exact computations."""
    if np.ptp(d) <= 1e-12 * np.abs(d).max():
        return 0.0 if (d.mean() > value if alternative == "greater" else d.mean() < value) else 1.0
    return float(stats.ttest_1samp(d, value, alternative=alternative).pvalue)


def holm_rejects(p: dict[str, float], level: float) -> set[str]:
    """Holm's step-down procedure: the names it rejects."""
    rejected: set[str] = set()
    for k, name in enumerate(sorted(p, key=lambda name: p[name])):
        if p[name] >= level / (len(p) - k):
            break
        rejected.add(name)
    return rejected


def recompute(results: Path) -> pd.DataFrame:
    """id, n, contrast, p_t and verdict of every claim in definitions.csv."""
    runs, measured = tables(results)
    definitions = read_definitions(results)
    both = {id: effects(definition, runs, measured) for id, definition in definitions.items()}
    found, bounds = {id: d for id, (d, _) in both.items()}, {id: b for id, (_, b) in both.items()}
    words = {id: "not run" for id in definitions}
    p_t = {}  # in the direction of the effect
    for id, d in found.items():
        if len(d) > 1:
            p_t[id] = t_test(d, 0, "less" if d.mean() < 0 else "greater")
    for which in sorted({x["list"] for x in definitions.values()}):
        whole = [id for id, x in definitions.items() if x["list"] == which and len(found[id]) == len(x["seeds"])]
        for word, sign in (("supported", 1), ("contradicted", -1)):
            p = {id: t_test(sign * found[id], 0, "greater") for id in whole}
            levels = {definitions[id]["rule"]["family"] for id in whole}
            for id in holm_rejects(p, min(levels, default=0.0)):
                rule = definitions[id]["rule"]
                if p[id] < rule["alpha"] and flips(sign * found[id]) <= rule["flip"] and bounds[id] * sign >= 0:
                    words[id] = word
        for id in whole:
            d, margin = found[id], definitions[id]["margin"]
            if words[id] == "not run":
                outside = max(t_test(d, -margin, "greater"), t_test(d, margin, "less"))
                equal = outside < definitions[id]["rule"]["equivalence"] and not bounds[id] and d.any()
                words[id] = "equivalent" if equal else "inconclusive"
    rows = [(id, len(d), d.mean() if len(d) else np.nan, p_t.get(id, np.nan), words[id]) for id, d in found.items()]
    return pd.DataFrame(rows, columns=["id", "n", "contrast", "p_t", "verdict"])


def differences(results: Path) -> list[str]:
    """A line for each claim whose row in claims.csv is not what is recomputed."""
    claims = pd.read_csv(results / "claims.csv").set_index("id")
    definitions = {id: definition["measure"] for id, definition in read_definitions(results).items()}
    lines = [f"{id}: in one of claims.csv and definitions.csv only" for id in sorted(set(claims.index) ^ set(definitions))]
    for row in recompute(results).to_dict("records"):
        if (id := row["id"]) not in claims.index:
            continue
        stated = claims.loc[id].to_dict()
        shown = row["contrast"]
        if definitions[id]["measure"] in ("Faster", "Cheaper"):
            shown = definitions[id].get("share", 1.0) * np.exp(-shown)
        if (stated["verdict"], stated["n"]) != (row["verdict"], row["n"]):
            lines.append(f"{id}: {stated['verdict']} (n = {stated['n']}), recomputed {row['verdict']} (n = {row['n']})")
        elif row["n"] > 1:
            effect = float(str(stated["effect"]).split()[-1])
            if not np.isclose(effect, shown, rtol=6e-3) or not np.isclose(stated["p_t"], row["p_t"], rtol=6e-2):
                lines.append(f"{id}: {effect:g} (p {stated['p_t']:g}), recomputed {shown:.4g} (p {row['p_t']:.3g})")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "results"
    parser.add_argument("--results", type=Path, default=default, help="the folder with tables/, claims.csv, definitions.csv")
    wrong = differences(parser.parse_args().results)
    print("\n".join(wrong) or "every verdict, effect and p value is as recomputed")
    sys.exit(bool(wrong))
