"""Extension: section 6.7 has no figure. A convolutional net under norms, and its units at the border of the image."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from lnexp.evidence.catalog import label
from lnexp.evidence.figures import Figure, main
from lnexp.evidence.plotting import WIDTH, arms, finish, norm_style, norms_of
from lnexp.evidence.stats import interval

BORDER = {"on": "share of units on", "std": "sd of summed inputs"}
FORMS = {"map": "whole layer", "position": "each position", "instance": "each channel (instance)"}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Training NLL and test error against updates; the share of units on against the distance to the border."""
    figure, (nll, error) = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    arms(nll, frame, "train/nll", "step", log=True)
    nll.set(xlabel="updates", ylabel="training NLL (nats)")
    arms(error, frame, "test/error", "step", log=True)
    error.set(xlabel="updates", ylabel="test error")
    return finish(figure, frame, "Convolutional net (section 6.7)", f"Learning rate {rates(frame)}.")


def rates(frame: pd.DataFrame) -> str:
    """The learning rate of all norms, or each one's own."""
    of = frame.groupby("norm.name")["optimizer.lr"].first()
    return f"{of.iloc[0]:g}" if of.nunique() == 1 else ", ".join(f"{of[norm]:g} ({label(norm)})" for norm in norms_of(frame))


def draw_border(frame: pd.DataFrame, measure: str) -> plt.Figure:
    """A statistic of the units by distance to the border of their feature map: one panel a layer, after training."""
    name = rf"border/{measure}_layer(\d+)_edge(\d+)"
    rows = frame[frame["metric"].str.fullmatch(name)]
    place = rows["metric"].str.extract(name).astype(int)
    rows = rows.assign(layer=place[0], distance=place[1])
    rows = rows[rows["step"] == rows.groupby("id")["step"].transform("max")]
    layers = sorted(rows["layer"].unique())
    columns = min(3, len(layers))
    figure, axes = plt.subplots(
        -(-len(layers) // columns), columns, figsize=(WIDTH, 2.3 * -(-len(layers) // columns)), squeeze=False
    )
    for ax, layer in zip(axes.flat, layers, strict=False):
        for norm in norms_of(rows):
            colour, marker = norm_style(norm)
            of = rows[(rows["layer"] == layer) & (rows["norm.name"] == norm)]
            by_seed = of.pivot_table(index="id", columns="distance", values="value").to_numpy()
            look = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
            ax.plot(by_seed.mean(0), label=f"{label(norm)} (n={len(by_seed)})", **look)
            if len(by_seed) > 1:
                low, high = np.array([interval(values) for values in by_seed.T]).T
                ax.fill_between(range(len(low)), low, high, color=colour, alpha=0.15, linewidth=0)
        ax.set(title=f"layer {layer}", xlabel="distance to the border", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel(BORDER[measure])
    for ax in axes.flat[len(layers) :]:
        ax.set_axis_off()
    said = "Distance 0 is the outermost ring of a layer's feature map. Lines: means over seeds, with their 95 % t intervals."
    return finish(figure, frame, "Units at the border of the image (section 6.7)", said, "Best model of each run.", lines=False)


def draw_statistics(frame: pd.DataFrame) -> plt.Figure:
    """Test error under the forms of layer and RMS normalisation, one panel each."""
    figure, axes = plt.subplots(1, len(FORMS), figsize=(WIDTH, 3.2), sharey=True)
    for ax, (form, name) in zip(axes, FORMS.items(), strict=True):
        arms(ax, frame[frame["task.statistics"] == form], "test/error", "step", log=True)
        ax.set(title=name, xlabel="updates", ylabel="test error" if ax is axes[0] else None)
    said = "Statistics of one case are over all units of a layer, the channels at a position, or the positions of a channel."
    return finish(figure, frame, "What a norm of feature maps is taken over", said, f"Learning rate {rates(frame)}.")


FIGURES = (
    Figure("convnet", draw, "convnet"),
    Figure("convnet_border_on", partial(draw_border, measure="on"), "convnet"),
    Figure("convnet_border_spread", partial(draw_border, measure="std"), "convnet"),
    Figure("convnet_norms", draw, "convnet_norms"),
    Figure("convnet_statistics", draw_statistics, "convnet_statistics"),
    Figure("convnet_images", draw, "convnet_images"),
    Figure("convnet_images_border_on", partial(draw_border, measure="on"), "convnet_images"),
    Figure("convnet_images_border_spread", partial(draw_border, measure="std"), "convnet_images"),
)

if __name__ == "__main__":
    main(FIGURES, __doc__)
