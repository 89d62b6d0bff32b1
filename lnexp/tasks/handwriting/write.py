"""Handwriting drawn from a trained network, point by point (Graves 2013, sections 5.4 and 5.5).

Shapes: T steps, B samples, U symbols of the text, K Gaussians of the window, M components.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnexp.data.strokes.alphabet import SYMBOLS
from lnexp.nn import LSTM, LSTMCell
from lnexp.nn.batch_statistics import BatchSteps
from lnexp.nn.ops.mixture_density import Mixture
from lnexp.nn.ops.window.reference import attend, one_hot
from lnexp.tasks.handwriting.model import HandwritingNet

LONGEST = 2.5  # times the usual number of points of a text, after which a sample is broken off


@dataclass(frozen=True)
class Written:
    """One sample.

    Attributes:
        offsets: float [T, 3], standardised; those of the prime first.
        primed: how many of them are the prime's.
        phi_TU: the window's weight at each place of the text, one place after its end included; empty without text.
        text: what should be written, that of the prime first.
        ended: whether the window has passed the text; False where the sample was broken off.
    """

    offsets: np.ndarray
    primed: int
    phi_TU: np.ndarray
    text: np.ndarray
    ended: bool


@torch.no_grad()
def write(
    model: HandwritingNet,
    codes: np.ndarray,
    biases: list[float],
    points_per_symbol: float,
    prime: tuple[np.ndarray, np.ndarray] | None = None,
    generator: torch.Generator | None = None,
) -> list[Written]:
    """One sample for each bias, on the CPU, from a model in evaluation mode.

    Args:
        codes: symbols of the text; without effect on a prediction network.
        biases: probability bias b of each sample: standard deviations exp(log sigma - b), component weights softmax((1 + b) pi);
            0: unbiased.
        points_per_symbol: of the training set; decides when a sample is broken off.
        prime: (standardised offsets [n, 3], their text's symbols) of a real line, read before the sample begins, whose style the
            network then continues (Graves 2013, section 5.5).
        generator: of the random numbers; None: torch's global one.
    """
    given, before = (np.zeros((0, 3), np.float32), np.zeros(0, np.uint8)) if prime is None else prime
    text, B = np.concatenate([before, codes]), len(biases)
    most = len(given) + int(LONGEST * points_per_symbol * len(codes)) + 10
    layers = [layer for layer in model.rnn if isinstance(layer, LSTM)]
    cells = [cell_of(layer) for layer in layers]
    hot_UC = one_hot(torch.from_numpy(text.astype(np.int64))[None], torch.tensor([len(text)]), SYMBOLS, torch.float32)[0]
    states = [(torch.zeros(B, cell.hidden_size), torch.zeros(B, cell.hidden_size)) for cell in cells]
    kappa_BK = torch.zeros(B, 0 if model.window is None else model.window.out_features // 3)
    w_BC, x_B3 = torch.zeros(B, 0 if model.window is None else SYMBOLS), torch.tensor([[0.0, 0.0, 1.0]] * B)
    bias_B1 = torch.tensor(biases)[:, None]
    points, phis, ended_B = [], [], torch.full((B,), most)
    with ExitStack() as stack:
        for cell in cells:
            stack.enter_context(cell.packed())
        for t in range(most):
            below: list[Tensor] = []
            for n, cell in enumerate(cells):
                states[n] = cell(torch.cat([x_B3, w_BC, *below[-1:]], 1), states[n], t=t)
                below.append(states[n][0])
                if n == 0 and model.window is not None:
                    phi_BU, kappa_BK = attend(model.window(below[0]), kappa_BK, len(text) + 1)
                    w_BC = phi_BU[:, :-1] @ hot_UC
                    phis.append(phi_BU)
            if t < len(given):
                x_B3 = torch.from_numpy(given[t]).expand(B, 3)
            else:
                x_B3 = draw(model.output(torch.cat(below, 1)), bias_B1, generator)
                if model.window is not None:
                    over_B = (phis[-1].argmax(1) == len(text)) & (ended_B == most)
                    ended_B = torch.where(over_B, t + 1, ended_B)
            points.append(x_B3)
            if bool((ended_B < most).all()):
                break
    points_TB3, phi_TBU = torch.stack(points).numpy(), torch.stack(phis).numpy() if phis else np.zeros((len(points), B, 0))
    ends = [min(int(end), len(points)) for end in ended_B]
    return [
        Written(points_TB3[:end, b], len(given), phi_TBU[:end, b], text, bool(ended_B[b] < most)) for b, end in enumerate(ends)
    ]


def draw(y_BP: Tensor, bias_B1: Tensor, generator: torch.Generator | None) -> Tensor:
    """A point [B, 3] from the biased mixtures of the outputs (Graves 2013, equations 60-62)."""
    m = Mixture(y_BP.double())
    k_B1 = torch.multinomial((m.log_pi_NM * (1 + bias_B1)).softmax(1), 1, generator=generator)
    a_B2 = torch.randn(len(y_BP), 2, dtype=torch.float64, generator=generator)
    log_sd_x, log_sd_y, r = (v.gather(1, k_B1)[:, 0] for v in (m.log_sd_x_NM, m.log_sd_y_NM, m.atanh_rho_NM))
    mean_x, mean_y, bias_B = m.mean_x_NM.gather(1, k_B1)[:, 0], m.mean_y_NM.gather(1, k_B1)[:, 0], bias_B1[:, 0]
    dx = mean_x + (log_sd_x - bias_B).exp() * a_B2[:, 0]
    dy = mean_y + (log_sd_y - bias_B).exp() * (r.tanh() * a_B2[:, 0] + a_B2[:, 1] / r.cosh())
    end = torch.rand(len(y_BP), dtype=torch.float64, generator=generator) < m.end_N.sigmoid()
    return torch.stack([dx, dy, end.double()], 1).float()


def cell_of(layer: LSTM) -> LSTMCell:
    """A cell with the parameters of a layer, in evaluation mode."""
    records = None if layer.batch_steps is None else layer.batch_steps.get_submodule("l0")
    max_t = records.max_t if isinstance(records, BatchSteps) else None
    cell = LSTMCell(layer.input_size, layer.hidden_size, norm=layer.norm, placement=layer.cell.placement, max_t=max_t)
    cell.load_state_dict({name.replace("_l0", "").replace(".l0", ""): value for name, value in layer.state_dict().items()})
    return cell.eval()
