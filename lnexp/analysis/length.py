"""Sequences longer than any in training: an LSTM trained on T / 2 to T steps, tested on T to 8 T, for any norm (section 3.1).

The problems are adding and copying (`lnexp.analysis.problems`). Layer normalisation is the same function at every step; batch
normalisation has statistics for each step of training and repeats the last ones beyond. The learning rate is chosen for each
norm and problem on trial seeds, by the error at T.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.analysis import Run
from lnexp.analysis.norms import has_cells, make_norm
from lnexp.analysis.problems import COPIED, SYMBOLS, adding, copying
from lnexp.nn import LSTM
from lnexp.seeding import generator, set_aside

PROBLEMS = {"adding": adding, "copying": copying}
FEATURES = {"adding": 3, "copying": SYMBOLS + 3}
OUTPUTS = {"adding": 1, "copying": SYMBOLS}


def runs(
    norm: str,
    seed: int,
    *,
    problems: Sequence[str],
    hidden_size: int,
    length: int,
    factors: Sequence[int],
    cases: int,
    updates: int,
    rates: Sequence[float],
    trial_seeds: Sequence[int],
    test_cases: int,
) -> Iterator[Run]:
    """Train on each problem, test at each length; nothing for a norm that recurrent cells do not know.

    Args:
        length: T, the longest of a sequence in training.
        factors: test lengths in units of T.
        rates: learning rates from which one is chosen.
        trial_seeds: the seeds on which it is chosen.
    """
    for problem in problems if has_cells(norm) else ():
        settings = (problem, hidden_size, length, cases, updates)
        found = tuned(norm, tuple(rates), tuple(trial_seeds), test_cases, *settings)
        rate = min(found, key=lambda r: found[r])
        model = train(norm, seed, rate, *settings)
        for factor in factors:
            values = [(1, "test/error", test(model, problem, seed, factor * length, test_cases))]
            if factor == 1:
                values += [(1, f"tuning/{r:g}", error) for r, error in found.items()]
            yield Run({"problem": problem, "length": factor * length, "rate": rate}, values)


@cache
def tuned(
    norm: str, rates: tuple[float, ...], trial_seeds: tuple[int, ...], test_cases: int, *settings: str | int
) -> dict[float, float]:
    """Learning rate -> mean error at T over the trial seeds."""
    problem, _, length, *_ = settings
    found = {}
    for rate in rates:
        models = [train(norm, seed, rate, *settings) for seed in trial_seeds]  # type: ignore[arg-type]
        errors = [
            test(model, str(problem), seed, int(length), test_cases) for model, seed in zip(models, trial_seeds, strict=True)
        ]
        found[rate] = sum(errors) / len(errors)
    return found


class Reader(nn.Module):
    """An LSTM and a linear layer on its outputs: x_TBI -> [T, B, outputs]. States start at N(0, 0.1^2)."""

    def __init__(self, norm: str, problem: str, hidden_size: int, length: int) -> None:
        super().__init__()
        self.norm = make_norm(norm, 1e-5)
        self.lstm = LSTM(FEATURES[problem], hidden_size, norm=self.norm, max_t=length, forget_bias=1.0)
        self.output = nn.Linear(hidden_size, OUTPUTS[problem])

    def forward(self, x_TBI: Tensor, random: torch.Generator) -> Tensor:
        shape = (1, x_TBI.shape[1], self.lstm.hidden_size)
        start = [0.1 * torch.randn(shape, generator=random) for _ in range(2)]
        return self.output(self.lstm(x_TBI, tuple(start))[0])


def train(norm: str, seed: int, rate: float, problem: str, hidden_size: int, length: int, cases: int, updates: int) -> Reader:
    """Train a reader by Adam, gradients clipped to norm 1; then estimate the population statistics of its norm."""
    with set_aside(seed, "length", problem):
        model = Reader(norm, problem, hidden_size, length)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    random = generator(seed, "length", problem, "training")
    for _ in range(updates):
        x_TBI, y = PROBLEMS[problem](drawn_length(length, random), cases, random)
        loss = losses(problem, model(x_TBI, random), y)[0]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    batches = [PROBLEMS[problem](drawn_length(length, random), 100, random)[0] for _ in range(50)]
    model.norm.calibrate(model, lambda x_TBI: model(x_TBI, random), batches)
    return model


def drawn_length(longest: int, random: torch.Generator) -> int:
    """A length between half of the longest and the longest, the same for all sequences of a batch."""
    return int(torch.randint(longest // 2, longest + 1, (), generator=random))


@torch.no_grad()
def test(model: Reader, problem: str, seed: int, length: int, cases: int) -> float:
    """The error on sequences of a length: mean squared error of adding, error rate of copying."""
    random = generator(seed, "length", problem, "test", length)
    x_TBI, y = PROBLEMS[problem](length, cases, random)
    model.eval()
    return float(losses(problem, model(x_TBI, random), y)[1])


def losses(problem: str, out_TBO: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the error that `test` returns."""
    if problem == "adding":
        loss = F.mse_loss(out_TBO[-1, :, 0], y)
        return loss, loss.detach()
    logits_TBO = out_TBO[-COPIED:]
    return F.cross_entropy(logits_TBO.flatten(0, 1), y.flatten()), (logits_TBO.argmax(dim=2) != y).float().mean()
