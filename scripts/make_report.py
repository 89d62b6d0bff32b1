"""Write results/REPORT.md: every claim with its computed verdict, the figures, and every departure from the paper."""

import argparse
from pathlib import Path

from lnexp import paths
from lnexp.evidence.report import report

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=paths.RESULTS, help="the folder that holds tables/, figures/ and claims.csv"
    )
    arguments = parser.parse_args()
    path = arguments.results / "REPORT.md"
    path.write_text(report(arguments.results))
    print(path)
