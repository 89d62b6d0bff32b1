"""Bring results/tables up to date with the finished runs on this disk."""

import argparse
from pathlib import Path

from lnexp import paths
from lnexp.evidence.tables import SCALES, make_tables

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds runs/ and tables/")
    parser.add_argument(
        "--scale", nargs="*", choices=SCALES, default=["desk", "paper"], help="which runs; smoke runs are no evidence"
    )
    parser.add_argument("--prune", action="store_true", help="drop rows that no preset of configs/experiment names any more")
    arguments = parser.parse_args()
    for line in make_tables(arguments.results, arguments.scale, arguments.prune):
        print(line)
