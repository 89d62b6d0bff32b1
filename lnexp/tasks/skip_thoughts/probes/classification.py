"""Logistic regression on sentence vectors as in the paper's evaluation, C chosen by cross-validation, never on test rows.

Shapes: N sentences, D features, K costs, P problems (training sets), R classifiers (one, or one a class
where there are more than two), S splits.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from scipy.sparse import coo_array, csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.multiclass import OneVsRestClassifier
from torch import Tensor

from lnexp.tasks.skip_thoughts.probes.logistic import logistic_path

COSTS = tuple(2.0**k for k in range(9))
FOLDS = KFold(10)  # contiguous, not stratified
SHUFFLE = 1234  # the rows are shuffled once, by the seed of the authors' evaluation

Features: TypeAlias = np.ndarray | csr_matrix
Split = tuple[np.ndarray, np.ndarray]  # training rows, test rows


def accuracies(x_ND: Features, label_N: np.ndarray, train: int | None = None, fast: bool = True) -> np.ndarray:
    """Accuracies in percent on rows that neither the classifier nor the choice of its C has seen (paper 6.3).

    For each split into training and test rows, C is the smallest of 2^0 .. 2^8 with the best mean accuracy over 10 folds of the
    training rows; the classifier is then fitted to all of these.

    Args:
        x_ND: features, an array or a sparse matrix.
        label_N: classes, numbered from 0. More than two: one-vs-rest.
        train: how many rows, the first ones, are for training, the others being the test set. None: nested cross-validation.
        fast: solve all problems together; else fit them one by one with scikit-learn, which takes minutes to hours.

    Returns:
        One accuracy a split: 10 of the outer folds, or a single one where there is a test set.
    """
    order_N = np.random.RandomState(SHUFFLE).permutation(train or len(label_N))
    splits = list(FOLDS.split(order_N)) if train is None else [(np.arange(train), np.arange(train, len(label_N)))]
    order_N = np.concatenate([order_N, np.arange(len(order_N), len(label_N))])
    return 100 * (_together if fast else _one_by_one)(x_ND[order_N], label_N[order_N], splits)


def _one_by_one(x_ND: Features, label_N: np.ndarray, splits: list[Split]) -> np.ndarray:
    """The protocol word for word. (liblinear is what scikit-learn's LogisticRegression was when the paper was written.)"""

    def accuracy(fit: np.ndarray, test: np.ndarray, cost: float) -> float:
        classifier = LogisticRegression(C=cost, solver="liblinear")
        if label_N.max() > 1:
            classifier = OneVsRestClassifier(classifier)
        return classifier.fit(x_ND[fit], label_N[fit]).score(x_ND[test], label_N[test])

    tested = []
    for train, test in splits:
        means = [np.mean([accuracy(train[fit], train[test], cost) for fit, test in FOLDS.split(train)]) for cost in COSTS]
        tested.append(accuracy(train, test, COSTS[int(np.argmax(means))]))
    return np.array(tested)


def _together(x_ND: Features, label_N: np.ndarray, splits: list[Split]) -> np.ndarray:
    """The same with all training sets solved at once: of each split the ten of the inner folds, then the whole."""
    problems: list[Split] = []
    for train, test in splits:
        problems += [(train[fit], train[test]) for fit, test in FOLDS.split(train)]
        problems.append((train, test))
    train_NP = np.zeros((len(label_N), len(problems)), np.float32)
    for p, (fit, _) in enumerate(problems):
        train_NP[fit, p] = 1
    hit_KNP = _decisions(x_ND, label_N, train_NP) == label_N[:, None]
    accuracy_PK = np.array([hit_KNP[:, test, p].mean(1) for p, (_, test) in enumerate(problems)])
    accuracy_SPK = accuracy_PK.reshape(len(splits), -1, len(COSTS))
    best_S = accuracy_SPK[:, :-1].mean(1).argmax(1)
    return accuracy_SPK[np.arange(len(splits)), -1, best_S]


def _decisions(x_ND: Features, label_N: np.ndarray, train_NP: np.ndarray) -> np.ndarray:
    """The class that each problem's classifier gives to each row, at each cost [K, N, P]."""
    x = _with_ones(x_ND)
    positives = [1] if label_N.max() == 1 else range(label_N.max() + 1)
    y_NRP = np.stack([np.where(label_N == c, 1, -1) for c in positives], 1)[:, :, None].repeat(train_NP.shape[1], 2)
    y = torch.from_numpy(y_NRP.astype(np.float32).reshape(len(label_N), -1))
    z_KNP = logistic_path(x, y, torch.from_numpy(train_NP).repeat(1, len(positives)), COSTS)
    z_KNRP = z_KNP.unflatten(2, (len(positives), -1))
    return (z_KNRP[:, :, 0] > 0).long().numpy() if len(positives) == 1 else z_KNRP.argmax(2).numpy()


def _with_ones(x_ND: Features) -> Tensor:
    """The features and one more that is 1, float32 and dense or sparse as before."""
    ones_N1 = np.ones((x_ND.shape[0], 1), np.float32)
    if isinstance(x_ND, np.ndarray):
        return torch.from_numpy(np.hstack([x_ND, ones_N1]).astype(np.float32))
    x = coo_array(hstack([x_ND, ones_N1], dtype=np.float32))
    places, values = torch.from_numpy(np.stack(x.coords)), torch.from_numpy(x.data)
    return torch.sparse_coo_tensor(places, values, x.shape, check_invariants=True).coalesce()
