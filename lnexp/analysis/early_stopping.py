"""By what angle an update turns the weight vectors, against their norm, in the training of a small net (section 5.2.2).

The net has 64 inputs (handwritten digits of 8 x 8 pixels, from scikit-learn), one normalised hidden layer and ten outputs; it is
trained by stochastic gradient descent. Its first weights start at several multiples of their drawn values: where a norm makes
the output invariant to the scale of the weights, the function is the same at the start, and the norm of the weights alone
decides how fast their direction can turn.

Shapes: B batch, D inputs, N units.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.analysis.norms import Layer
from lnexp.seeding import generator

CLASSES = 10


@cache
def digits() -> tuple[Tensor, Tensor]:
    """1,797 images x_BD, pixels in 0 to 1, and their labels y_B."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float64), torch.tensor(y)


def train(
    norm: str, seed: int, multiple: float, units: int, updates: int, batch: int, rate: float, every: int
) -> list[tuple[int, float, float, float]]:
    """Train the net.

    Args:
        multiple: of the drawn first weights at the start.
        rate: the learning rate.
        every: updates that one entry of the result averages over.

    Returns:
        For each period its last update, the mean angle in radians by which an update has turned a weight vector of the hidden
        layer, the mean norm of these vectors, and the mean loss in nats.
    """
    x_BD, y_B = digits()
    hidden = Layer(norm, x_BD.shape[1], units, 1e-5).double()
    output = nn.Linear(units, CLASSES).double()
    random = generator(seed, "early stopping")
    with torch.no_grad():
        hidden.weight_ND.copy_(multiple * torch.randn(units, x_BD.shape[1], generator=random) / x_BD.shape[1] ** 0.5)
        output.weight.copy_(torch.randn(CLASSES, units, generator=random) / units**0.5)
        for bias in (hidden.bias_N, output.bias):
            if bias is not None:
                bias.zero_()
        if hidden.gain_N is not None:
            hidden.gain_N.fill_(1.0)
    optimizer = torch.optim.SGD([*hidden.parameters(), *output.parameters()], lr=rate)
    rows, seen = [], []
    for update in range(1, updates + 1):
        chosen_B = torch.randint(len(x_BD), (batch,), generator=random)
        before_ND = hidden.weight_ND.detach().clone()
        loss = F.cross_entropy(output(hidden(x_BD[chosen_B]).tanh()), y_B[chosen_B])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_ND = hidden.weight_ND.detach()
        seen.append(torch.stack([angles(before_ND, after_ND).mean(), after_ND.norm(dim=1).mean(), loss.detach()]))
        if update % every == 0:
            angle, size, mean_loss = torch.stack(seen).mean(dim=0).tolist()
            rows.append((update, angle, size, mean_loss))
            seen = []
    return rows


def angles(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """The angle between rows, in radians: 2 atan(|u - v| / |u + v|) for unit vectors u, v, exact also for small angles."""
    u_ND, v_ND = (w_ND / w_ND.norm(dim=1, keepdim=True) for w_ND in (a_ND, b_ND))
    return 2 * torch.atan2((u_ND - v_ND).norm(dim=1), (u_ND + v_ND).norm(dim=1))
