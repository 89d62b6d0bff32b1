"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between two plain lines, at least


class Progress:
    """Rate, loss and time left of one run.

    Args:
        title: id of the run, such as "mnist/ln-b128-s0-1a2b3c4d".
        place: for one of several runs, "3 of 30".
        shown: False prints nothing.
        bar: whether to draw a bar; None: if stderr is a terminal.
    """

    def __init__(self, title: str, place: str = "", shown: bool = True, bar: bool | None = None) -> None:
        self.title = f"{title} ({place})" if place else title
        self.shown = shown
        self.bar_wanted = sys.stderr.isatty() if bar is None else bar
        self.bar: tqdm | None = None

    def start(self, step: int, steps: int, brief: tuple[str, ...]) -> None:
        """Begin at update `step` of `steps`. The bar shows the values named in `brief`."""
        self.brief, self.latest = brief, dict[str, float]()
        self.steps, self.first, self.began, self.last_line = steps, step, time.monotonic(), float("-inf")
        self.words = 0
        if self.shown and self.bar_wanted:
            self.bar = tqdm(total=steps, initial=step, desc=self.title, unit="update", dynamic_ncols=True, smoothing=0.1)

    def step(self, words: int = 0) -> None:
        """Count one update, on a batch of `words` words."""
        self.words += words
        if self.bar is not None:
            self.bar.update()

    def show(self, step: int, values: Mapping[str, float], now: bool = False) -> None:
        """Show values. A plain line is printed at most every ten seconds, unless `now`."""
        if self.bar is not None:
            self.latest |= {name: values[name] for name in self.brief if name in values}
            self.bar.set_postfix_str(f"{_text(self.latest)}{self._words_a_second()}", refresh=False)
        elif self.shown and (now or time.monotonic() - self.last_line >= LINE_EVERY):
            self.last_line = time.monotonic()
            spent = self.last_line - self.began
            rate = (step - self.first) / spent if spent > 0 else 0.0
            left = f"{(self.steps - step) / rate:.0f} s left" if rate else ""
            rates = f"{rate:.1f} updates/s{self._words_a_second()}"
            print(f"{self.title}  {step}/{self.steps}  {_text(values)}  {rates}  {left}", file=sys.stderr, flush=True)

    def _words_a_second(self) -> str:
        """Words per second including evaluations, as updates per second are; empty for a task without words."""
        spent = time.monotonic() - self.began
        return f"  {self.words / spent:.0f} words/s" if self.words and spent > 0 else ""

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.shown:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _text(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
