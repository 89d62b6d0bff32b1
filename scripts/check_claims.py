"""Compute the verdict on every claim of the paper from the tables, and write results/claims.csv."""

import argparse
from pathlib import Path

from lnexp import paths
from lnexp.evidence.claims import ledger
from lnexp.evidence.tables import SCALES

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/")
    parser.add_argument("--scale", choices=SCALES, help="which runs; by default the strongest that the tables hold")
    arguments = parser.parse_args()
    claims = ledger(arguments.results, arguments.scale)
    claims.to_csv(arguments.results / "claims.csv", index=False, lineterminator="\n")
    for claim in claims.to_dict("records"):
        print("{id}  {verdict:<12}  {says}".format_map(claim))
        if claim["n"]:
            tested = "{effect} ({interval}), n={n}, p {p_t}" if claim["interval"] else "{effect}, n={n}"
            print(f"      {{measure}}: {tested}, {{scale}} scale, {{data}}".format_map(claim))
