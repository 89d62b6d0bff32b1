"""Ranks and recalls against a slow transcription of their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lnexp.nn.ops.order_violations import order_violations
from lnexp.tasks.order_embeddings import retrieval
from lnexp.tasks.order_embeddings.retrieval import metrics, ranks


def slowly(e_IC: np.ndarray, image_of_C: np.ndarray) -> tuple[list[int], list[int]]:
    """Sort everything for each query and look where the right one stands, the way the original evaluation does."""
    images = [int(np.flatnonzero(np.argsort(e_IC[:, c], kind="stable") == image_of_C[c])[0]) for c in range(e_IC.shape[1])]
    captions = []
    for i in range(e_IC.shape[0]):
        order = np.argsort(e_IC[i], kind="stable")
        captions.append(min(int(np.flatnonzero(order == c)[0]) for c in np.flatnonzero(image_of_C == i)))
    return images, captions


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_those_of_a_full_sort(seed: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    images = int(random.integers(1, 90))
    of = np.repeat(np.arange(images), random.integers(1, 7, images))
    v, s = random.normal(size=(images, 7)), random.normal(size=(len(of), 7))
    if ties:
        v, s = np.rint(v), np.rint(s)
    monkeypatch.setattr(retrieval, "SCORES", int(random.integers(1, 2000)))  # blocks of any size
    for distances in (order_violations, lambda v, s: -v @ s.t()):
        v_ID, s_CD, of_C = torch.tensor(v), torch.tensor(s), torch.tensor(of)
        image_rank_C, caption_rank_I = ranks(v_ID, s_CD, of_C, distances)
        slow = slowly(distances(v_ID, s_CD).numpy(), of)
        assert image_rank_C.tolist() == slow[0]
        assert caption_rank_I.tolist() == slow[1]


def test_equal_embeddings_rank_by_chance() -> None:
    """A net that has collapsed must not look perfect."""
    image_rank_C, caption_rank_I = ranks(torch.ones(100, 4), torch.ones(500, 4), torch.arange(100).repeat_interleave(5), zeros)
    assert image_rank_C.mean() == pytest.approx(49.5)
    assert caption_rank_I.mean() == pytest.approx(247.5, abs=3)


def zeros(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    return torch.zeros(len(v_ID), len(s_CD))


def test_measures_by_hand() -> None:
    assert metrics(np.array([0, 1, 4, 9, 30])) == {
        "recall_at_1": 20.0,
        "recall_at_5": 60.0,
        "recall_at_10": 80.0,
        "median_rank": 5.0,
        "mean_rank": pytest.approx(9.8),
    }
    assert metrics(np.array([1, 2]))["median_rank"] == 2  # the original rounds half ranks down, then counts from 1
