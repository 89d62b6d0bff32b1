"""Cloze questions as arrays, and batches of them. Entities are renamed and questions paraphrased when a batch is made.

Shapes: N questions of a split, T tokens of the longest passage, S of the longest question, B questions in a batch, E entities,
V words in the vocabulary, K neighbours of a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnexp.data.batches import Batches, Share, bucketed
from lnexp.data.text.sequences import Sequences
from lnexp.seeding import fold

ENTITY = 2  # token id of @entity0; those of the other entities follow, then that of the placeholder
PLACEHOLDER = "@placeholder"
MIN_WORDS = 2  # a paraphrased question has at least this many words, if its sentence has


@dataclass(frozen=True)
class Paraphrase:
    """How a sentence of the passage becomes a question that does not occur in the passage word for word.

    Attributes:
        keep: probability that a word is kept.
        replace: probability that a kept word is replaced by one of its neighbours, all equally likely.
        neighbours_VK: token ids of the words used most like each word; of a token that is not a word: itself, K times.
        dropped_V: tokens that are never kept: entities and punctuation.
    """

    keep: float
    replace: float
    neighbours_VK: np.ndarray
    dropped_V: np.ndarray


@dataclass(frozen=True)
class Questions:
    """The questions of one split, with entities numbered as in their texts.

    Attributes:
        passages, questions: token ids; several questions may share a passage.
        passage_N: index of each question's passage.
        answer_N: the right entity, from 0.
        entities: number of entity names.
        permute: which examples share a random renaming of the entities in training: "batch", those of a batch (paper 6.2,
            released code) | "example", each example has its own.
        paraphrase: None: questions are asked unchanged.
    """

    passages: Sequences
    questions: Sequences
    passage_N: np.ndarray
    answer_N: np.ndarray
    entities: int
    permute: str
    paraphrase: Paraphrase | None

    def __len__(self) -> int:
        return len(self.answer_N)


def cloze_batches(
    questions: Questions,
    batch_size: int,
    seed: int | None = None,
    epoch: int = 0,
    share: Share = (0, 1),
    device: str | torch.device = "cpu",
) -> Batches:
    """Batches of questions whose passages have similar lengths.

    In training (with a seed) the renaming of entities and the paraphrases are drawn anew in every epoch. In evaluation they are
    drawn once, independently of the batch size; with permute="batch" one renaming serves the whole split.

    Args:
        questions: of one split.
        batch_size: questions in a batch, over all processes.
        seed: None: in order of passage length, the last batch may be smaller. Else as `bucketed` with (seed, epoch).
        share: see `Batches`.
        device: of all tensors but lengths.

    Each batch is a dictionary:
        passage_TB, question_SB: int64 token ids, one text per column, padded with END.
        passage_lengths_B, question_lengths_B: int64, on the CPU, 1 or more.
        answer_B: int64 token id of the right entity.
        candidates_BE: bool, the entities that occur in the passage.
    """
    index_batches = bucketed(questions.passages.lengths_N[questions.passage_N], batch_size, seed, epoch)
    drawn = (fold(0, "evaluation"), 0) if seed is None else (fold(seed, "training"), epoch)
    collate = _Collate(questions, *drawn, renamings=1 if seed is None else len(index_batches), device=str(device))
    return Batches(index_batches, collate, seed, share)


class _Collate:
    """(index_B, k) -> batch k, with the renamings and paraphrases of one epoch.

    Args:
        seed, epoch: of the random numbers.
        renamings: number of renamings with permute="batch".
    """

    def __init__(self, questions: Questions, seed: int, epoch: int, renamings: int, device: str) -> None:
        self.of, self.device = questions, device
        names = len(questions) if questions.permute == "example" else renamings
        self.order_NE = np.random.default_rng(fold(seed, "entities", epoch)).random((names, questions.entities), np.float32)
        if questions.paraphrase is not None:
            random = np.random.default_rng(fold(seed, "paraphrase", epoch))
            self.keep_u, self.replace_u = random.random((2, len(questions.questions.values)), np.float32)

    def __call__(self, index_B: np.ndarray, k: int) -> dict[str, Tensor]:
        passage_TB, passage_lengths_B = self.of.passages.padded(self.of.passage_N[index_B])
        question_SB, question_lengths_B = self._questions(index_B)
        name_EB = self._names(index_B, k)
        answer_B = torch.from_numpy(self.of.answer_N[index_B].astype(np.int64))
        passage_TB, question_SB = _renamed(passage_TB, name_EB), _renamed(question_SB, name_EB)
        batch = {
            "passage_TB": passage_TB,
            "question_SB": question_SB,
            "answer_B": ENTITY + name_EB.gather(0, answer_B[None])[0],
            "candidates_BE": _present(passage_TB, self.of.entities),
        }
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return {**batch, "passage_lengths_B": passage_lengths_B, "question_lengths_B": question_lengths_B}

    def _names(self, index_B: np.ndarray, k: int) -> Tensor:
        """name_EB: the new name of each entity, a permutation of 0 .. E-1 in every column."""
        if self.of.permute == "example":
            order_BE = self.order_NE[index_B]
        else:
            order_BE = np.repeat(self.order_NE[k % len(self.order_NE)][None], len(index_B), axis=0)
        return torch.from_numpy(np.argsort(order_BE, axis=1, kind="stable").T)

    def _questions(self, index_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """Token ids [S, B] and lengths [B] of the questions, paraphrased if the set says so."""
        whole_SB, lengths_B = self.of.questions.padded(index_B)
        how = self.of.paraphrase
        if how is None:
            return whole_SB, lengths_B
        word_SB = whole_SB.numpy()
        place_SB = np.minimum(self.of.questions.starts_N[index_B] + np.arange(len(word_SB))[:, None], len(self.keep_u) - 1)
        placeholder_SB = word_SB == ENTITY + self.of.entities
        u_SB = np.where(how.dropped_V[word_SB], np.float32(2), self.keep_u[place_SB])
        smallest_B = np.sort(u_SB, axis=0)[:MIN_WORDS].max(axis=0)
        keep_SB = (u_SB <= np.maximum(how.keep, smallest_B)) & (u_SB < 2) | placeholder_SB
        # Given replace_u < replace, replace_u / replace is uniform on [0, 1): it also chooses the neighbour.
        which_SB = (self.replace_u[place_SB] / max(how.replace, 1e-9) * how.neighbours_VK.shape[1]).astype(np.int64)
        neighbour_SB = how.neighbours_VK[word_SB, np.minimum(which_SB, how.neighbours_VK.shape[1] - 1)]
        new_SB = np.where(self.replace_u[place_SB] < how.replace, neighbour_SB, word_SB)
        lengths_B = torch.from_numpy(keep_SB.sum(axis=0))
        first_SB = np.argsort(~keep_SB, axis=0, kind="stable")[: int(lengths_B.max())]  # kept words first, in order
        new_SB = np.where(np.take_along_axis(keep_SB, first_SB, 0), np.take_along_axis(new_SB, first_SB, 0), 0)
        return torch.from_numpy(new_SB), lengths_B


def _renamed(word_TB: Tensor, name_EB: Tensor) -> Tensor:
    """Token ids with each entity replaced by its new name."""
    entity_TB = word_TB - ENTITY
    inside_TB = (entity_TB >= 0) & (entity_TB < len(name_EB))
    return torch.where(inside_TB, ENTITY + name_EB.gather(0, entity_TB.clamp(0, len(name_EB) - 1)), word_TB)


def _present(word_TB: Tensor, entities: int) -> Tensor:
    """present_BE: the entities that occur in each text."""
    entity_BT = (word_TB - ENTITY).t()
    other = torch.full_like(entity_BT, entities)
    entity_BT = torch.where((entity_BT >= 0) & (entity_BT < entities), entity_BT, other)
    present_BE = torch.zeros(len(entity_BT), entities + 1, dtype=torch.bool)
    return present_BE.scatter_(1, entity_BT, True)[:, :entities].contiguous()
