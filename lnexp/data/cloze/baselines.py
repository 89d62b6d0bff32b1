"""Rules without learning that a trained reader should beat.

Shapes: T words of a passage, S of a question.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from lnexp.data.cloze.batches import ENTITY, Questions, cloze_batches
from lnexp.data.text.vocabulary import UNKNOWN

WINDOW = 8  # words before and after a mention that window and directional compare
BATCH = 64


def baselines(questions: Questions) -> dict[str, float]:
    """The error of each rule, on the questions as an evaluation sees them.

    A rule that finds several entities equally good takes one at random; its expected error is given.

    Returns:
        random: any entity of the passage.
        first, last: the entity mentioned first, last.
        frequent: the entity mentioned most often.
        frequent_unnamed: the entity mentioned most often among those that are not in the question (all, if all are).
        window: among those not in the question, the entity with the mention that has the most different words of the question
            within 8 words before and after it; ties go to the entity mentioned most often.
        directional: as window, but words before the blank count only before the mention, and words after it only after.
    """
    right = dict.fromkeys(RULES, 0.0)
    batches = cloze_batches(questions, BATCH)
    blank = ENTITY + questions.entities
    for k in range(len(batches)):
        batch = {name: tensor.numpy() for name, tensor in batches[k].items()}
        for b, answer in enumerate(batch["answer_B"]):
            passage_T = batch["passage_TB"][: batch["passage_lengths_B"][b], b]
            question_S = batch["question_SB"][: batch["question_lengths_B"][b], b]
            for rule, best in _answers(passage_T, question_S, blank).items():
                right[rule] += (answer in best) / len(best)
    return {rule: 1 - right[rule] / len(questions) for rule in RULES}


RULES = ("random", "first", "last", "frequent", "frequent_unnamed", "window", "directional")


def _answers(passage_T: np.ndarray, question_S: np.ndarray, blank: int) -> dict[str, list[int]]:
    """The best entities of each rule; [-1] where the passage has no entity."""
    place_M = np.flatnonzero((passage_T >= ENTITY) & (passage_T < blank))
    entity_M = passage_T[place_M]
    times = Counter(entity_M.tolist())
    if not times:
        return {rule: [-1] for rule in RULES}
    named = set(question_S.tolist())
    unnamed = [entity for entity in times if entity not in named] or list(times)
    most = {entity: times[entity] for entity in unnamed}
    found = {
        "random": list(times),
        "first": [int(entity_M[0])],
        "last": [int(entity_M[-1])],
        "frequent": _best(times),
        "frequent_unnamed": _best(most),
    }
    at = int(np.flatnonzero(question_S == blank)[0])
    left, right, both = question_S[:at], question_S[at + 1 :], question_S
    before_M, after_M = place_M - WINDOW, place_M + WINDOW + 1
    scores = {
        "window": _met(both, passage_T, before_M, after_M, blank),
        "directional": _met(left, passage_T, before_M, place_M, blank) + _met(right, passage_T, place_M + 1, after_M, blank),
    }
    for rule, score_M in scores.items():
        best = {e: (int(score_M[entity_M == e].max()), times[e]) for e in unnamed}
        found[rule] = _best(best)
    return found


def _best(score: dict) -> list[int]:
    highest = max(score.values())
    return [entity for entity, value in score.items() if value == highest]


def _met(words: np.ndarray, passage_T: np.ndarray, from_M: np.ndarray, to_M: np.ndarray, blank: int) -> np.ndarray:
    """For each mention, how many different words of `words` occur in passage_T[from_M:to_M]."""
    known = np.unique(words[(words > UNKNOWN) & (words != blank)])
    before_T1W = np.zeros((len(passage_T) + 1, len(known)), np.int64)
    np.cumsum(passage_T[:, None] == known, axis=0, out=before_T1W[1:])
    end = len(passage_T)
    return (before_T1W[np.clip(to_M, 0, end)] > before_T1W[np.clip(from_M, 0, end)]).sum(axis=1)
