"""Where things lie in the repository; the only place that knows."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
RESULTS = ROOT / "results"
PAPER = RESULTS / "paper"  # the paper's own numbers and curves
