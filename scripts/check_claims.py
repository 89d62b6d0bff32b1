"""Compute the verdict on every claim from the tables; write claims.csv, definitions.csv and REPORT.md."""

import argparse
import sys
from pathlib import Path

from lnexp import paths
from lnexp.evidence.catalog import SCALES
from lnexp.evidence.claims.ledger import definitions, ledger
from lnexp.evidence.report import report
from lnexp.evidence.simulation import printed
from lnexp.files import write_whole
from lnexp.script import script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/ and figures/")
    parser.add_argument(
        "--scale", choices=SCALES, help="which runs; by default, for each claim, the strongest with all its seeds"
    )
    parser.add_argument("--power", type=int, metavar="N", help="print error rates and power over N simulated studies, and stop")
    arguments = parser.parse_args()
    if arguments.power:
        print(printed(arguments.power))
        return
    results, claims = arguments.results, ledger(arguments.results, arguments.scale)
    write_whole(results / "definitions.csv", definitions().to_csv(index=False, lineterminator="\n").encode())
    write_whole(results / "claims.csv", claims.to_csv(index=False, lineterminator="\n").encode())
    write_whole(results / "REPORT.md", report(results, claims.astype(str)).encode())
    for claim in claims.to_dict("records"):
        print("{id:<12}  {verdict:<12}  {says}".format_map(claim))
    print(results / "claims.csv", results / "REPORT.md")


if __name__ == "__main__":
    sys.exit(script(main))
