"""Are units at the border of the image other units? The paper's reason why layer normalisation does worse here (section 6.7).

Shapes: N images, C channels, Y rows, X columns, D distances to the border.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lnexp.tasks.base import Batches
from lnexp.tasks.convnet.model import ConvNet


@torch.no_grad()
def border_statistics(model: ConvNet, batches: Batches) -> dict[str, float]:
    """Statistics of the units of each layer by their distance to the border of the feature map, 0 at the outermost ring.

    Returns:
        on_layer<l>_edge<d>: share of the units that are on (a positive output of the ReLU), over images, channels and the
        positions of that distance; std_layer<l>_edge<d>: standard deviation of what the ReLU reads, over the same;
        on_ratio: share on in the outermost ring / share on of all other positions, mean over layers that have others;
        spread_ratio: the same of the standard deviations.
    """
    sums: list[Tensor] = []
    images = 0
    for k in range(len(batches)):
        batch = batches[k]["x_BYXC"]
        images += len(batch)
        for layer, a_BCYX in enumerate(model.summed_inputs(batch)):
            a_BCYX = a_BCYX.double()
            moments = torch.stack([(a_BCYX > 0).double(), a_BCYX, a_BCYX.square()]).mean(2).sum(1)  # [3, Y, X]
            if layer == len(sums):
                sums.append(moments)
            else:
                sums[layer] += moments
    values, ratios = dict[str, float](), list[list[float]]()
    for layer, total in enumerate(sums, 1):
        of_ring, positions = by_distance(total / images)
        for name, of_D in described(of_ring).items():
            values |= {f"{name}_layer{layer}_edge{d}": float(v) for d, v in enumerate(of_D)}
        if len(positions) > 1:
            inside = (of_ring[:, 1:] * positions[1:]).sum(1, keepdim=True) / positions[1:].sum()
            edge, others = described(of_ring[:, :1]), described(inside)
            ratios.append([float(edge[name] / others[name].clamp(min=1e-12)) for name in ("on", "std")])
    on, spread = torch.tensor(ratios, dtype=torch.float64).mean(0).tolist() if ratios else (1.0, 1.0)
    return {"on_ratio": on, "spread_ratio": spread, **values}


def described(moments_3D: Tensor) -> dict[str, Tensor]:
    """Share on and standard deviation, from the means of (a > 0), a and a^2."""
    on, mean, square = moments_3D
    return {"on": on, "std": (square - mean.square()).clamp(min=0).sqrt()}


def by_distance(values_3YX: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the positions of each distance [3, D], and the numbers of these positions [D]."""
    distance_YX = distances(*values_3YX.shape[1:]).to(values_3YX.device)
    rings = [distance_YX == d for d in range(int(distance_YX.max()) + 1)]
    means = torch.stack([values_3YX[:, ring].mean(1) for ring in rings], dim=1)
    return means, torch.stack([ring.sum() for ring in rings])


def distances(height: int, width: int) -> Tensor:
    """Number of positions between each position and the nearest border, [Y, X]."""
    y, x = torch.arange(height), torch.arange(width)
    y, x = torch.minimum(y, height - 1 - y), torch.minimum(x, width - 1 - x)
    return torch.minimum(y[:, None], x[None])
