"""results/REPORT.md, generated: what the paper claims, what the runs show, and how the runs differ from the paper's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lnexp import paths
from lnexp.analysis import ANALYSES
from lnexp.evidence.catalog import differences, experiments, task_of
from lnexp.evidence.claims import SECTIONS, Section
from lnexp.evidence.stats import ALPHA, ALPHA_EQUIVALENCE, ALPHA_FLIP, FAMILY, MIN_SEEDS, POWER, VERDICTS
from lnexp.evidence.tables import load

RULES = f"""## How a verdict is computed

`make claims` computes every verdict from `results/tables`; nobody types one. Runs of one seed start from equal weights and see
equal batches; each seed gives one effect, positive where the claim holds. On the deciding seeds, at least {MIN_SEEDS}, a claim is

- *supported* when the paired one-sided t test gives p < {ALPHA}, Holm's adjusted p is below {FAMILY} and the exact sign-flip
  test gives p <= {ALPHA_FLIP}; *contradicted* when the same holds of the opposite;
- *equivalent* when it is neither and two one-sided tests at {ALPHA_EQUIVALENCE} place the effect within the claim's margin;
- *inconclusive* otherwise, and *not run* without runs of all deciding seeds.

Error rates: a single claim is falsely supported with probability {ALPHA} at most, and as often falsely contradicted. Over all of
the paper's claims that are tested, any false "supported" has probability {FAMILY} at most (Holm), any false "contradicted" as
much; the extensions, and each study, are lists of their own with the same bounds. A false "equivalent" has
{ALPHA_EQUIVALENCE} for each claim, uncorrected. Intervals are t intervals at the level of the rule, {1 - 2 * ALPHA:.0%}
({1 - 2 * ALPHA_EQUIVALENCE:.0%} beside *equivalent*); p values are those of the direction of the effect. *Power* is that of
the t test at this n for an effect of the
size of the margin, with the spread seen (Holm lowers it); beside it is the n that gives {POWER:.0%}. For claims that are not run,
it is that of the deciding n with the spread of the exploration.

*Fixed* says whether the definition (measure, arms, metric, margin, seeds, configurations, rule) was committed before the runs
were made, from the git history of `results/definitions.csv`. Measures of speed and of final error were changed after the runs of
seeds 0 to 4 were seen: those claims are decided by seeds 5 to 9 (one-way reader: 5 to 14), and seeds 0 to 4 are shown as
exploration. Claims whose measure is unchanged are still decided by seeds 0 to 4; their margins, Holm's correction and the
history file are newer than these runs, hence "after the runs were seen". A run that diverged counts as the worst throughout.

Holm's correction grows with the number of claims that have runs, so a verdict near its limit can fall back to *inconclusive* when
others are run. Some claims are nearly one measurement (Pearson's r and squared error on SICK; a recall and the sum of recalls):
the counts above do not count independent findings. Claims on time compare processor time of runs made on one machine. `python
scripts/check_claims.py --power 1000` prints error rates and power of the measures on simulated curves.
"""
DECIDED = """| | claim | verdict | measure | effect | interval | n | p: t / Holm / flip | power (n needed) | fixed |
|---|---|---|---|---|---|---|---|---|---|"""
DECIDED_ROW = (
    "| {id} | {says} ({where}) | **{verdict}** {note} | {measure} | {effect} | {interval} | {n} (seeds {seeds}) "
    "| {p_t} / {p_holm} / {p_flip} | {power} ({n_needed}) | {fixed} |"
)
WAITING = """| | claim, not run | why | decided by | measure | exploration, not a verdict | power to come (n needed) |
|---|---|---|---|---|---|---|"""
WAITING_ROW = (
    "| {id} | {says} ({where}) | {note} | {experiment}, seeds {seeds} | {measure} | {exploration} {explored} | {planned} |"
)
APPENDIX = """## Appendix: the first measures

Until the runs of seeds 0 to 4 had been seen, speed was the ratio of first passages of the best value that both arms reach, final
error the best evaluation, and sensitivity to the gain the range of best errors. All three reward or punish noise: at equal arms,
with one arm's evaluations 3 times as noisy, the first passage gave 11 to 12 % false verdicts. So they were replaced, after seeds
0 to 4 were seen. Both on those seeds; first intervals are at 95 %, new ones at 98 %:

| | first measure | verdict then | effect then (interval) | measure now | effect now (interval) |
|---|---|---|---|---|---|"""


def report(results: Path, claims: pd.DataFrame | None = None) -> str:
    """The whole report as Markdown.

    Args:
        results: the folder that holds tables/, figures/ and claims.csv.
        claims: the rows of claims.csv as text; None reads the file.
    """
    if claims is None:
        claims = pd.read_csv(results / "claims.csv", dtype=str, keep_default_na=False)
    parts = ["# Report\n", _overview(claims), RULES]
    parts += [_section(section, claims, results) for section in SECTIONS]
    parts += [(paths.PAPER / "errata.md").read_text(), _first_measures(claims)]
    return "\n".join(parts)


def _overview(claims: pd.DataFrame) -> str:
    """A line for each section: the claim, counts of verdicts on the section's own list, the runs' size, a caveat."""
    head = ["section", "what the paper claims", *VERDICTS, "our runs", "caveat"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for section in SECTIONS:
        mine = claims[claims["id"].isin([claim.id for claim in section.claims])]
        of_paper = mine[mine["list"] == "paper"]
        counts = (of_paper if len(of_paper) else mine)["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
        link = f"[{section.number}](#{_anchor(section)}) {section.title}"
        lines.append("| " + " | ".join([link, section.says, *map(str, counts), section.size, section.caveat]) + " |")
    counted = "Counts are of the paper's own claims (permuted MNIST, studies: of ours), one section of the paper per line.\n"
    return "\n".join([_tried(claims, "paper"), *lines, "", counted, _tried(claims, "extension")])


def _tried(claims: pd.DataFrame, which: str) -> str:
    mine = claims[(claims["list"] == "paper") == (which == "paper")]
    run, explored = mine["verdict"] != "not run", mine["exploration"] != ""
    name = "the paper's claims" if which == "paper" else "the extensions, which the paper does not claim"
    counts = mine["verdict"].value_counts()
    words = ", ".join(f"{counts[word]} {word}" for word in VERDICTS[:-1] if word in counts) or "none"
    return (
        f"Of {name}: {int((run | explored).sum())} tried of {len(mine)}. {int(run.sum())} have their deciding runs ({words}); "
        f"{int((~run & explored).sum())} have exploratory runs only; {int((~run & ~explored).sum())} have none.\n"
    )


def _section(section: Section, claims: pd.DataFrame, results: Path) -> str:
    """A section: its claims, decided ones first, then its experiments with their figures, then the departures."""
    mine = claims[claims["id"].isin([claim.id for claim in section.claims])]
    parts = [f"## {_heading(section)}\n", f"The paper: {section.says} Our runs: {section.size}. Caveat: {section.caveat}\n"]
    for head, row, rows in (
        (DECIDED, DECIDED_ROW, mine[mine["verdict"] != "not run"]),
        (WAITING, WAITING_ROW, mine[mine["verdict"] == "not run"]),
    ):
        if len(rows):
            parts.append("\n".join([head, *(row.format_map(claim) for claim in rows.to_dict("records"))]) + "\n")
    for name in [*section.analyses, *(name for name in experiments() if task_of(name) == section.task)]:
        parts += [f"### {name}\n", _runs(load(name, results=results))]
        parts += ["\n".join(f"- {note}" for note in ANALYSES[name].notes) + "\n"] if name in section.analyses else []
        parts += [f"![{path.stem}](figures/{path.name})\n" for path in _of(name, results, "png")]
        parts += [path.read_text() for path in _of(name, results, "md")]
    if section.task:
        parts += ["How this differs from the paper:\n", "\n".join(f"- {each}" for each in differences(section.task)) + "\n"]
    return "\n".join(parts)


def _heading(section: Section) -> str:
    return f"{section.number} {section.title}" if section.number[0].isdigit() else section.title


def _anchor(section: Section) -> str:
    """The anchor that Markdown renderers give a heading."""
    return "".join(c for c in _heading(section).lower() if c.isalnum() or c in " -").replace(" ", "-")


def _of(experiment: str, results: Path, kind: str) -> list[Path]:
    """The figures, or tables in Markdown, named after an experiment and not after one with a longer name."""
    files = sorted((results / "figures").glob(f"*.{kind}"))
    names = [*experiments(), *ANALYSES]
    return [p for p in files if max((e for e in names if p.stem.startswith(e)), key=len, default="") == experiment]


def _runs(frame: pd.DataFrame) -> str:
    """Number, scale, data, machines and commits of an experiment's runs."""
    if frame.empty:
        return "No runs yet.\n"
    runs = frame.drop_duplicates("id")
    machines, commits = ({one for of_run in runs[column] for one in str(of_run).split("; ")} for column in ("machine", "commit"))
    seeds = runs["seed"].nunique()
    diverged = int((runs["status"] == "diverged").sum())
    return (
        f"{len(runs)} runs, {runs['scale'].iloc[0]} scale, data {runs['data'].iloc[0]}, {seeds} seed{'s' * (seeds != 1)}; "
        f"{diverged} diverged. Made on {', '.join(sorted(machines))}, code {', '.join(sorted(c[:8] for c in commits))}.\n"
    )


def _first_measures(claims: pd.DataFrame) -> str:
    """The committed results of the first measures beside the exploration by the present ones."""
    first = pd.read_csv(paths.RESULTS / "first_measures.csv", dtype=str, keep_default_na=False)
    both = first.merge(claims[["id", "measure", "exploration"]], on="id", suffixes=("", "_now"))
    row = "| {id} | {measure} | {verdict} | {effect} ({interval}) | {measure_now} | {exploration} |"
    return "\n".join([APPENDIX, *(row.format_map(claim) for claim in both.to_dict("records"))]) + "\n"
