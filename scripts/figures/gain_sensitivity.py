"""Extension of section 6.2: best validation error and NLL of the attentive reader against the initial gain of its norms."""

import matplotlib.pyplot as plt
import pandas as pd

from lnexp.plotting import arms, figure_main, provenance

PANELS = (("valid/error", "best validation error"), ("valid/nll", "best validation NLL (nats)"))


def draw(frame: pd.DataFrame) -> plt.Figure:
    """A panel a measure, a line a norm: the best value of each run over its initial gain."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
    for ax, (metric, label) in zip(axes, PANELS, strict=True):
        rows = frame[frame["metric"] == metric]
        best = rows.groupby(["metric", "norm.name", "norm.gain", "seed"], as_index=False)["value"].min()
        best["id"] = best["norm.name"] + best["seed"].astype(str)  # one line a seed, its points the gains
        arms(ax, best.assign(step=best["norm.gain"]), metric, "norm.gain")
        ax.set(xscale="log", xlabel="initial gain", ylabel=label)
    axes[0].legend(loc="upper center")
    figure.suptitle(f"Attentive reader: how much hangs on the initial gain ({provenance(frame)})", fontsize=9)
    return figure


if __name__ == "__main__":
    figure_main(__file__, "gain_sensitivity", draw)
