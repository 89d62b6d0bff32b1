"""How related two sentences are, predicted from their vectors by a softmax regression (SICK, paper 6.3).

Shapes: N pairs, D dimensions of a sentence vector, F = 2 D + 1 features, R = 5 grades, B pairs in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import spearmanr
from torch import Tensor
from torch.optim.adam import adam

GRADES = 5
SHUFFLE = 1234  # the training pairs are shuffled once, by the seed of the authors' evaluation
BATCH, EPOCHS_A_ROUND = 128, 100
FASTER = 5  # times the authors' learning rate, and a fifth of their epochs
ROUNDS = 200  # largest number of rounds of the fast fit; r on the development pairs may rise slightly for hundreds more
RIDGES = [10 / 2**k for k in range(25)]


def relatedness_scores(
    u_ND: np.ndarray, v_ND: np.ndarray, score_N: np.ndarray, sizes: tuple[int, int, int], how: str = "adam"
) -> dict[str, float]:
    """Correlations and mean squared error of predicted and true scores on the test pairs (paper 6.3).

    A softmax regression from [|u - v|, u * v, 1] to soft labels is fitted to the training pairs successively. It stops as
    soon as Pearson's correlation on the development pairs does not rise, and the fit before counts. The score predicted is
    the mean grade.

    Args:
        u_ND, v_ND: vectors of the left and right sentences.
        score_N: true scores from 1 to 5.
        sizes: how many pairs are for training, development and test, in this order.
        how: the fits, one after the other. protocol: each after 100 more epochs of Adam, as the authors have it: seconds to
            many minutes. adam: each after 20 more of them at 5 times the rate, 200 fits at most. ridge: the exact ones under
            ridges, each half as strong as the last. README.md beside this file shows the agreement.

    Returns:
        pearson, spearman, mse.
    """
    x_NF = torch.from_numpy(np.hstack([abs(u_ND - v_ND), u_ND * v_ND, np.ones((len(u_ND), 1))]).astype(np.float32))
    train, dev, test = np.split(np.arange(len(score_N)), np.cumsum(sizes)[:2])
    train = np.random.RandomState(SHUFFLE).permutation(train)
    best, best_FR = -np.inf, torch.zeros(0)
    for w_FR in FITS[how](x_NF[train], torch.from_numpy(soft_labels(score_N[train]))):
        if not (pearson := _pearson(_mean_grade(x_NF[dev], w_FR), score_N[dev])) > best:
            break
        best, best_FR = pearson, w_FR.clone()
    predicted_N = _mean_grade(x_NF[test], best_FR)
    return {
        "pearson": _pearson(predicted_N, score_N[test]),
        "spearman": float(spearmanr(predicted_N, score_N[test]).statistic),
        "mse": float(np.mean((predicted_N - score_N[test]) ** 2)),
    }


def _mean_grade(x_NF: Tensor, w_FR: Tensor) -> np.ndarray:
    return ((x_NF @ w_FR).softmax(1) @ torch.arange(1.0, GRADES + 1)).numpy()


def soft_labels(score_N: np.ndarray) -> np.ndarray:
    """Each score as weights of the two grades around it, so that their mean is the score (Tai et al. 2015), float32 [N, 5]."""
    grade_R = np.arange(1, GRADES + 1)
    return np.maximum(0, 1 - abs(score_N[:, None] - grade_R)).astype(np.float32)


def _adam_rounds(x_NF: Tensor, target_NR: Tensor, faster: int = 1) -> Iterator[Tensor]:
    """The weights after each round, from zero weights, the pairs always in the same order.

    The length of Adam's steps is about its learning rate, independent of the gradient's scale: few at a higher rate do the work
    of many.

    A matrix of 5 rows is multiplied four times as fast as one of 5 columns. An optimizer's bookkeeping would take a third of the
    time, hence the function below it.
    """
    w_RF, slope_RF, mean_RF, square_RF = torch.zeros(4, GRADES, x_NF.shape[1])
    state: dict[str, Any] = {"exp_avgs": [mean_RF], "exp_avg_sqs": [square_RF], "max_exp_avg_sqs": []}
    state |= {"state_steps": [torch.tensor(0.0)], "amsgrad": False, "maximize": False, "fused": True}
    usual: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    batches = list(zip(x_NF.split(BATCH), target_NR.t().split(BATCH, 1), strict=True))
    while True:
        for _ in range(EPOCHS_A_ROUND // faster):
            for x_BF, target_RB in batches:
                error_RB = (w_RF @ x_BF.t()).softmax(0).sub_(target_RB)
                torch.mm(error_RB.div_(len(x_BF)), x_BF, out=slope_RF)
                adam([w_RF], [slope_RF], lr=1e-3 * faster, **usual, **state)
        yield w_RF.t()


def _ridge_path(x_NF: Tensor, target_NR: Tensor) -> Iterator[Tensor]:
    """The weights that minimise the summed cross-entropy + ridge / 2 |w|^2, from strong to weak ridges.

    L-BFGS sees the features turned into the directions of their Gram matrix and scaled by its eigenvalues, so that the problem is
    nearly round and each solution is a good start for the next.
    """
    size_F, turn_FF = torch.linalg.eigh(x_NF.t().double() @ x_NF.double())
    turn_FF = turn_FF.float()
    turned_NF = x_NF @ turn_FF
    v_FR = torch.zeros(x_NF.shape[1], GRADES)
    for ridge in RIDGES:
        scale_F1 = (size_F.clamp_min(0) / 4 + ridge).rsqrt().float()[:, None]

        def objective(flat: np.ndarray, scale_F1: Tensor = scale_F1, ridge: float = ridge) -> tuple[float, np.ndarray]:
            v_FR = scale_F1 * torch.from_numpy(flat).float().view(-1, GRADES)
            logp_NR = (turned_NF @ v_FR).log_softmax(1)
            value = ridge / 2 * v_FR.square().sum() - (target_NR * logp_NR).sum()
            slope_FR = scale_F1 * (turned_NF.t() @ (logp_NR.exp() - target_NR) + ridge * v_FR)
            return value.item(), slope_FR.double().numpy().ravel()

        start = (v_FR / scale_F1).double().numpy().ravel()
        solved = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-6})
        v_FR = scale_F1 * torch.from_numpy(solved.x).float().view(-1, GRADES)
        yield turn_FF @ v_FR


FITS: dict[str, Callable[[Tensor, Tensor], Iterator[Tensor]]] = {
    "adam": lambda x_NF, target_NR: islice(_adam_rounds(x_NF, target_NR, FASTER), ROUNDS),
    "ridge": _ridge_path,
    "protocol": _adam_rounds,
}


def _pearson(a_N: np.ndarray, b_N: np.ndarray) -> float:
    return float(np.corrcoef(a_N, b_N)[0, 1])
