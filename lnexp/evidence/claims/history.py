"""Whether a claim's definition stood before the runs that decide it, from the git history of results/definitions.csv."""

from __future__ import annotations

import io
import subprocess
from functools import cache

import pandas as pd

from lnexp import paths

FILE = "results/definitions.csv"  # columns id, sha256, definition
BEFORE, AFTER, UNKNOWN = "before", "after the runs were seen", "unknown"


def fixed(id: str, digest: str, commits: list[str]) -> str:
    """Whether the definition of a claim with this sha256 was committed before its runs were made.

    Args:
        id: the claim.
        digest: its definition's sha256 now.
        commits: the commit of each run that decides it.

    Returns:
        "before" if the commit since which the file has held this sha256 is an ancestor of (or is) every run's commit, and the
        file holds it at each of these; "after the runs were seen" otherwise, also where it is still to come; "unknown" without
        git or a complete history; "" for no runs.
    """
    if not commits:
        return ""
    versions = _versions()
    if versions is None or any(_git("cat-file", "-e", f"{c}^{{commit}}") is None for c in sorted(set(commits))):
        return UNKNOWN
    since = None
    for commit, held in versions:
        if held.get(id) != digest:
            break
        since = commit
    if since is None or any(_git("merge-base", "--is-ancestor", since, c) is None for c in sorted(set(commits))):
        return AFTER
    return BEFORE if all(_held(c).get(id) == digest for c in sorted(set(commits))) else AFTER


@cache
def _versions() -> list[tuple[str, dict[str, str]]] | None:
    """(commit, {id: sha256}) for every version of the file, the newest first; None without git or a complete history."""
    if _git("rev-parse", "--is-shallow-repository") != "false\n":
        return None
    versions = []
    for commit in (_git("log", "--full-history", "--format=%H", "--", FILE) or "").split():
        versions.append((commit, _held(commit)))
    return versions


@cache
def _held(commit: str) -> dict[str, str]:
    """id -> sha256 in the file at a commit."""
    text = _git("show", f"{commit}:{FILE}")
    if not text:
        return {}
    held = pd.read_csv(io.StringIO(text), usecols=["id", "sha256"], dtype=str)
    return dict(zip(held["id"], held["sha256"], strict=True))


@cache
def _git(*command: str) -> str | None:
    """The output of a git command in this checkout; None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(paths.ROOT), *command], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
