"""The probes of sentence encoders: fast solvers against the protocol word for word, and what may not leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from lnexp.data import sentence_eval
from lnexp.data.sentence_eval import Labelled, Related
from lnexp.tasks.skip_thoughts.probes import bag_of_words, classification, evaluate, logistic, relatedness
from lnexp.tasks.skip_thoughts.probes.classification import accuracies
from lnexp.tasks.skip_thoughts.probes.relatedness import relatedness_scores, soft_labels
from tests.conftest import SHARED


def unit(x_ND: np.ndarray) -> np.ndarray:
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


def classed(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 whose class a linear classifier tells in part."""
    random = np.random.default_rng(seed)
    label_N = random.integers(0, classes, n)
    return unit(random.standard_normal((classes, 8))[label_N] + 1.5 * random.standard_normal((n, 8))), label_N


@pytest.mark.parametrize("sparse", [False, True])
def test_the_solver_finds_each_optimum(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decision values as scikit-learn's, for other rows, classes and costs in one call."""
    monkeypatch.setattr(logistic, "GAP", 1e-4)
    x_ND, label_N = classed(300, 2, seed=1)
    x_ND = np.hstack([np.where(abs(x_ND) > 0.3, x_ND, 0), np.ones((300, 1))]).astype(np.float32)
    y = torch.from_numpy(2.0 * label_N - 1).float()
    train_NP = torch.ones(300, 3)
    train_NP[:100, 1] = train_NP[200:, 2] = 0
    x = torch.from_numpy(x_ND)
    z_KNP = logistic.logistic_path(x.to_sparse() if sparse else x, torch.stack([y, -y, y], 1), train_NP, (1, 16, 256))
    for k, cost in enumerate((1, 16, 256)):
        for p, sign in enumerate((1, -1, 1)):
            rows = train_NP[:, p].bool().numpy()
            exact = LogisticRegression(C=cost, fit_intercept=False, tol=1e-8, max_iter=1000)
            exact.fit(x_ND[rows], (sign * y).numpy()[rows])
            np.testing.assert_allclose(z_KNP[k, :, p], exact.decision_function(x_ND), atol=0.01)


def test_separable_classes_do_no_harm() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    y = torch.tensor([[1.0], [-1.0]]).repeat(20, 1)
    z_KNP = logistic.logistic_path(x, y, torch.ones(40, 1), (1, 1e4))
    assert z_KNP.isfinite().all() and (z_KNP[1] * y > 4).all()


@pytest.mark.parametrize(("classes", "train"), [(2, None), (3, 280)])
def test_fast_is_the_protocol_within_0_3_points(classes: int, train: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "COSTS", (1.0, 16.0, 256.0))
    x_ND, label_N = classed(350, classes, seed=classes)
    fast, slow = (accuracies(x_ND, label_N, train, fast) for fast in (True, False))
    assert fast.shape == slow.shape == ((10,) if train is None else (1,))
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.3)
    assert 40 < fast.mean() < 95


def test_sparse_features_give_the_same() -> None:
    x_ND, label_N = classed(200, 2, seed=5)
    dense, sparse = accuracies(x_ND, label_N), accuracies(csr_matrix(x_ND), label_N)
    assert dense.mean() == pytest.approx(sparse.mean(), abs=0.5)


def test_c_is_not_chosen_on_the_test_rows() -> None:
    """With all test labels turned around, exactly the right answers become wrong ones."""
    x_ND, label_N = classed(400, 2, seed=7)
    turned_N = np.where(np.arange(400) < 300, label_N, 1 - label_N)
    assert accuracies(x_ND, label_N, 300) + accuracies(x_ND, turned_N, 300) == pytest.approx(100)


def test_folds_are_contiguous_after_the_authors_shuffle() -> None:
    """A vector that says which outer fold its row is in: a fold whose vector was never seen is judged by the bias alone."""
    fold_N = np.empty(100, int)
    fold_N[np.random.RandomState(1234).permutation(100)] = np.arange(100) // 10
    label_N = (fold_N < 3).astype(int)
    accuracy = accuracies(np.eye(10, dtype=np.float32)[fold_N], label_N)
    np.testing.assert_array_equal(accuracy, [0, 0, 0] + [100] * 7)  # the bias says "not one of the first three"


def test_soft_labels_have_the_score_as_their_mean() -> None:
    label_NR = soft_labels(np.array([1.0, 3.25, 4.6, 5.0]))
    np.testing.assert_allclose(
        label_NR, [[1, 0, 0, 0, 0], [0, 0, 0.75, 0.25, 0], [0, 0, 0, 0.4, 0.6], [0, 0, 0, 0, 1]], atol=1e-6
    )


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]]


def pairs(seed: int, sizes: tuple[int, int, int] = (200, 200, 400)) -> Pairs:
    """Pairs of vectors, and scores that fall with their distance, with noise."""
    random, n = np.random.default_rng(seed), sum(sizes)
    u_ND, noise_ND = random.standard_normal((2, n, 30))
    apart_N = random.uniform(0, 1, n)
    v_ND = u_ND + 2 * apart_N[:, None] * noise_ND
    score_N = np.clip(5 - 4 * apart_N + 0.7 * random.standard_normal(n), 1, 5)
    return unit(u_ND), unit(v_ND), score_N, sizes


@pytest.mark.parametrize("seed", range(2))
def test_fast_rounds_of_adam_are_as_good_as_the_protocols(seed: int) -> None:
    """Within .3 points; an unfitted regression has no correlation at all."""
    fast, slow = (relatedness_scores(*pairs(seed, (2000, 500, 1500)), how) for how in ("adam", "protocol"))
    assert fast == pytest.approx(slow, abs=0.003) and fast["pearson"] > 0.7


def test_ridges_are_near_the_protocol() -> None:
    """On few pairs a ridge and early stopping are not quite the same."""
    ridge, slow = (relatedness_scores(*pairs(0), how) for how in ("ridge", "protocol"))
    assert ridge["pearson"] == pytest.approx(slow["pearson"], abs=0.02) and ridge["pearson"] > 0.7
    assert ridge["spearman"] == pytest.approx(slow["spearman"], abs=0.02)
    assert ridge["mse"] == pytest.approx(slow["mse"], abs=0.1) and ridge["mse"] < 1.5


def test_fast_rounds_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relatedness, "ROUNDS", 3)
    x_NF, target_NR = torch.randn(20, 4), torch.from_numpy(soft_labels(np.linspace(1, 5, 20)))
    assert len(list(relatedness.FITS["adam"](x_NF, target_NR))) == 3


def test_relatedness_learns_from_training_and_development_pairs_alone() -> None:
    u_ND, v_ND, score_N, sizes = pairs(1)
    turned_N = np.where(np.arange(800) < 400, score_N, 6 - score_N)
    right, turned = relatedness_scores(u_ND, v_ND, score_N, sizes), relatedness_scores(u_ND, v_ND, turned_N, sizes)
    assert turned["pearson"] == pytest.approx(-right["pearson"]) and turned["spearman"] == pytest.approx(-right["spearman"])


def tiny_sets() -> dict[str, Labelled | Related]:
    """Words g and b tell the class; pairs of equal words are related."""
    random = np.random.default_rng(0)
    label_N = random.integers(0, 2, 60)
    sentences = [["the", "gb"[label], "xyz"[random.integers(3)]] for label in label_N]
    left = [["gb"[n % 2]] for n in range(60)]
    right = [["gb"[n // 2 % 2]] for n in range(60)]
    score_N = np.array([5.0 if a == b else 1.0 for a, b in zip(left, right, strict=True)])
    return {
        "mr": Labelled(sentences, label_N),
        "trec": Labelled(sentences, label_N, train=50),
        "sick": Related(left, right, score_N, (30, 15, 15)),
    }


def counts(sentences: list[list[str]]) -> np.ndarray:
    return np.array([[words.count(w) for w in ("the", "g", "b", "x", "y", "z")] for words in sentences], np.float32)


def test_evaluate_names_everything_and_ignores_lengths() -> None:
    results = evaluate(counts, tiny_sets(), relatedness="ridge")
    assert set(results) == {"mr_accuracy", "mr_accuracy_sd", "trec_accuracy", "sick_pearson", "sick_spearman", "sick_mse"}
    assert results["mr_accuracy"] == results["trec_accuracy"] == 100 and results["mr_accuracy_sd"] == 0
    assert results["sick_pearson"] > 0.99 and results["sick_mse"] < 0.1
    longer = evaluate(lambda sentences: 7 * counts(sentences), tiny_sets(), relatedness="ridge")
    assert longer == pytest.approx(results, abs=1e-3)
    by_adam = evaluate(counts, tiny_sets())
    assert by_adam == pytest.approx(evaluate(counts, tiny_sets(), fast=False), rel=0.02) and by_adam["sick_pearson"] > 0.99


def test_each_sentence_is_encoded_once_a_set() -> None:
    asked: list[list[list[str]]] = []

    def encode(sentences: list[list[str]]) -> np.ndarray:
        asked.append(sentences)
        return counts(sentences)

    evaluate(encode, tiny_sets())
    assert [len(sentences) for sentences in asked] == [6, 6, 2]
    assert sorted(asked[2]) == [["b"], ["g"]]


def test_vectors_of_zeros_pass_and_those_that_are_not_numbers_are_named() -> None:
    mr = {"mr": tiny_sets()["mr"]}
    assert 20 < evaluate(lambda sentences: np.zeros((len(sentences), 3), np.float32), mr)["mr_accuracy"] < 80
    with pytest.raises(ValueError, match="vectors of mr are not finite"):
        evaluate(lambda sentences: np.full((len(sentences), 3), np.nan, np.float32), mr)


def test_bag_of_words() -> None:
    assert bag_of_words(tiny_sets()) == {"mr_accuracy": 100, "mr_accuracy_sd": 0, "trec_accuracy": 100}


@pytest.mark.skipif(not (SHARED / "sentence_eval").exists(), reason="the evaluation sets are not at hand")
def test_words_tell_opinions_in_real_reviews(tmp_path: Path) -> None:
    """CR by random word vectors of 50 dimensions, averaged: more than the 63.8 % that the commoner class has."""
    cr = sentence_eval.load(SHARED / "sentence_eval", tmp_path)["cr"]
    random, table = np.random.default_rng(0), {}

    def encode(sentences: list[list[str]]) -> np.ndarray:
        for words in sentences:
            for word in words:
                if word not in table:
                    table[word] = random.standard_normal(50)
        return np.array([np.mean([table[w] for w in words], 0) for words in sentences], np.float32)

    results = evaluate(encode, {"cr": cr})
    assert 64.5 < results["cr_accuracy"] < 75 and 1 < results["cr_accuracy_sd"] < 5
