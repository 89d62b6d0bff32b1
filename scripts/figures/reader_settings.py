"""Extensions of section 6.2: best error and NLL of the attentive reader against the initial gain, and the learning rate."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.evidence.plotting import Figure, arms, main, provenance

PANELS = (("valid/error", "best validation error"), ("valid/nll", "best validation NLL (nats)"))


def over(column: str, label: str) -> Callable[[pd.DataFrame], plt.Figure]:
    """A panel a measure, a line a norm: the best value of each run over `column`."""

    def draw(frame: pd.DataFrame) -> plt.Figure:
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
        for ax, (metric, name) in zip(axes, PANELS, strict=True):
            rows = frame[frame["metric"] == metric]
            best = rows.groupby(["metric", "norm.name", column, "seed"], as_index=False)["value"].min()
            best["id"] = best["norm.name"] + best["seed"].astype(str)  # one line a seed, its points the settings
            arms(ax, best.assign(step=best[column]), metric, column)
            ax.set(xscale="log", xlabel=label, ylabel=name)
        axes[0].legend(loc="upper center")
        figure.suptitle(f"Attentive reader: how much hangs on the {label} ({provenance(frame)})", fontsize=9)
        return figure

    return draw


FIGURES = (
    Figure("gain_sensitivity", over("norm.gain", "initial gain"), "gain_sensitivity"),
    Figure("fig2_rates", over("optimizer.lr", "learning rate"), "fig2_rates"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
