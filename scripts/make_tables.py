"""Bring results/tables up to date with the finished runs on this disk, and results/catalog.json with the configuration."""

import argparse
import sys
from pathlib import Path

from lnexp import paths
from lnexp.evidence import catalog
from lnexp.evidence.tables import make_tables
from lnexp.script import script

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds runs/ and tables/")
    parser.add_argument(
        "--scale", nargs="*", choices=catalog.SCALES, default=["desk", "paper"], help="which runs; smoke runs are no evidence"
    )
    parser.add_argument("--prune", action="store_true", help="drop rows that belong to no preset of configs/experiment any more")
    arguments = parser.parse_args()

    def main() -> None:
        if arguments.results.resolve() == paths.RESULTS:
            catalog.write()
        for line in make_tables(arguments.results, arguments.scale, arguments.prune):
            print(line)

    sys.exit(script(main))
