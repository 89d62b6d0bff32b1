"""Evaluation of the vectors of a frozen sentence encoder: classification and relatedness (paper 6.3, Table 3 and Figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from lnexp.data.sentence_eval import Labelled, Related
from lnexp.tasks.skip_thoughts.probes.classification import accuracies
from lnexp.tasks.skip_thoughts.probes.relatedness import relatedness_scores

Encoder = Callable[[list[list[str]]], np.ndarray]  # sentences of words -> vectors float32 [n, D]
Sets = Mapping[str, Labelled | Related]


def evaluate(encode: Encoder, sets: Sets, fast: bool = True, relatedness: str = "adam") -> dict[str, float]:
    """Evaluate an encoder on evaluation sets (paper 6.3).

    Args:
        encode: sentences of words -> vectors float32 [n, D]; called once a set, with its sentences, each one once. Vectors are
            scaled to length 1, as in the authors' code.
        sets: from `lnexp.data.sentence_eval.load`.
        fast: with solvers made for the purpose; else the protocol word for word, which takes hours.
        relatedness: adam | ridge, the fast fits on SICK, see `relatedness_scores`. Adam's are the authors'.

    Returns:
        For a set of classes NAME_accuracy, in percent, and, where it is the mean of 10 folds, NAME_accuracy_sd, their standard
        deviation. For sick sick_pearson, sick_spearman and sick_mse.

    Raises:
        ValueError: a vector is not finite.
    """
    results: dict[str, float] = {}
    for name, data in sets.items():
        if isinstance(data, Related):
            u_ND, v_ND = np.split(_vectors(encode, data.left + data.right, name), 2)
            measures = relatedness_scores(u_ND, v_ND, data.score_N, data.sizes, relatedness if fast else "protocol")
            results |= {f"{name}_{measure}": value for measure, value in measures.items()}
        else:
            results |= _named(name, accuracies(_vectors(encode, data.sentences, name), data.label_N, data.train, fast))
    return results


def bag_of_words(sets: Sets) -> dict[str, float]:
    """Accuracies of word counts on the sets of classes, on the same folds: the bag-of-words baseline."""
    results: dict[str, float] = {}
    for name, data in sets.items():
        if isinstance(data, Labelled):
            counts = CountVectorizer(analyzer=lambda sentence: sentence, dtype=np.float32).fit_transform(data.sentences)
            results |= _named(name, accuracies(counts, data.label_N, data.train))
    return results


def _vectors(encode: Encoder, sentences: list[list[str]], name: str) -> np.ndarray:
    """Vectors of length 1, row for row; one that is 0 stays so. A sentence of SICK stands in three pairs, but is encoded once."""
    rows = {words: row for row, words in enumerate(dict.fromkeys(map(tuple, sentences)))}
    x_ND = encode([list(words) for words in rows])
    if not np.isfinite(x_ND).all():
        raise ValueError(f"the encoder's vectors of {name} are not finite")
    x_ND = x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-8)
    return x_ND[[rows[tuple(words)] for words in sentences]]


def _named(name: str, accuracy_S: np.ndarray) -> dict[str, float]:
    spread = {f"{name}_accuracy_sd": float(accuracy_S.std(ddof=1))} if len(accuracy_S) > 1 else {}
    return {f"{name}_accuracy": float(accuracy_S.mean()), **spread}
