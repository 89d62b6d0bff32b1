"""Compute the verdict on every claim from the tables; write claims.csv, definitions.csv and REPORT.md."""

import argparse
from pathlib import Path

from lnexp import paths
from lnexp.evidence.catalog import SCALES
from lnexp.evidence.claims.ledger import definitions, ledger
from lnexp.evidence.report import report
from lnexp.evidence.simulation import printed

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/ and figures/")
    parser.add_argument(
        "--scale", choices=SCALES, help="which runs; by default, for each claim, the strongest with all its seeds"
    )
    parser.add_argument("--power", type=int, metavar="N", help="print error rates and power over N simulated studies, and stop")
    arguments = parser.parse_args()
    if arguments.power:
        print(printed(arguments.power))
        raise SystemExit
    definitions().to_csv(arguments.results / "definitions.csv", index=False, lineterminator="\n")
    claims = ledger(arguments.results, arguments.scale)
    claims.to_csv(arguments.results / "claims.csv", index=False, lineterminator="\n")
    (arguments.results / "REPORT.md").write_text(report(arguments.results, claims.astype(str)))
    for claim in claims.to_dict("records"):
        print("{id:<12}  {verdict:<12}  {says}".format_map(claim))
    print(arguments.results / "claims.csv", arguments.results / "REPORT.md")
