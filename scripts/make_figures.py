"""Draw the figures of scripts/figures from results/tables and results/paper: all of them, or those named."""

import runpy
from pathlib import Path

from lnexp.evidence.figures import main

if __name__ == "__main__":
    scripts = sorted((Path(__file__).parent / "figures").glob("*.py"))
    main([figure for script in scripts for figure in runpy.run_path(str(script))["FIGURES"]], __doc__)
