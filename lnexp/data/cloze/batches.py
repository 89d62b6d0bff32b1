"""Cloze questions as arrays, and batches of them: entities renamed, questions compressed and paraphrased, at the last moment.

Shapes: N questions of a split, T tokens of the longest passage, S of the longest question, B questions in a batch, E entities,
V words in the vocabulary, K neighbours of a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnexp.data.text.vocabulary import Sequences, bucketed
from lnexp.errors import UserError
from lnexp.seeding import fold

ENTITY = 2  # vocabulary number of @entity0; those of the others follow, and behind them that of the placeholder
PLACEHOLDER = "@placeholder"
WORDS_LEFT = 2  # a compressed question keeps at least so many words, where it has them


@dataclass(frozen=True)
class Paraphrase:
    """How a sentence of the passage is made a question that is not found word for word in the passage.

    Attributes:
        keep: the probability that a word stays.
        replace: the probability that a word that stayed gives way to one of its neighbours, all equally likely.
        neighbours_VK: the words that are used most like each word; those of what is no word are itself, K times.
        dropped_V: what never stays: entities and punctuation.
    """

    keep: float
    replace: float
    neighbours_VK: np.ndarray
    dropped_V: np.ndarray


@dataclass(frozen=True)
class Questions:
    """The questions of one split, entities as their text numbers them.

    Attributes:
        passages, questions: vocabulary numbers; a passage may be asked about several times.
        passage_N: which passage each question is about.
        answer_N: which entity is right, from 0.
        entities: how many there are names for.
        permute: which examples share one renaming of the entities in training: those of a batch (paper 6.2, released code), or
            each example has its own.
        paraphrase: None where questions are asked as they stand.
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


class ClozeBatches:
    """Batches of questions about passages of about equal length.

    In training (a seed is given) entities are renamed for each batch or each example, as `questions.permute` says, and questions
    that are built are compressed and paraphrased, all afresh in every epoch. Without a seed it is drawn once and for all (and one
    renaming serves the whole split if it is per batch), so that every evaluation sees the same, whatever the batch size.

    Args:
        questions: of one split.
        batch_size: questions in a batch, over all processes together.
        seed: None: from the shortest passage to the longest, the last batch may be smaller. Else in the order that `bucketed`
            draws by (seed, epoch).
        share: (rank, processes): in training every process gets its own, equally large part of each batch.
        device: where the tensors go, lengths excepted.

    Each batch is a dictionary:
        passage_TB, question_SB: int64 vocabulary numbers, one text a column, filled up with END.
        passage_lengths_B, question_lengths_B: int64, on the CPU, 1 or more.
        answer_B: int64 vocabulary number of the entity that is right.
        candidates_BE: bool, the entities that occur in the passage.
    """

    def __init__(
        self,
        questions: Questions,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        share: tuple[int, int] = (0, 1),
        device: str | torch.device = "cpu",
    ) -> None:
        self.of, self.device = questions, str(device)
        self.rank, self.processes = share if seed is not None else (0, 1)
        if batch_size % self.processes:
            raise UserError(f"batch_size={batch_size}: must be a multiple of the {self.processes} processes")
        lengths_N = questions.passages.lengths_N[questions.passage_N]
        self.batches = bucketed(lengths_N, batch_size, seed, epoch)
        drawn = (fold(0, "evaluation"), 0) if seed is None else (fold(seed, "training"), epoch)
        renaming = np.random.default_rng(fold(drawn[0], "entities", drawn[1]))
        if questions.permute == "example":
            self.renaming = renaming.random((len(questions), questions.entities), np.float32)
        else:
            self.renaming = renaming.random((1 if seed is None else len(self), questions.entities), np.float32)
        if questions.paraphrase is not None:
            chance = np.random.default_rng(fold(drawn[0], "paraphrase", drawn[1]))
            self.kept, self.replaced = chance.random((2, len(questions.questions.values)), np.float32)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        if not 0 <= k < len(self):
            raise IndexError(k)
        index_B = self.batches[k][self.rank :: self.processes]
        passage_TB, passage_lengths_B = self.of.passages.padded(self.of.passage_N[index_B])
        question_SB, question_lengths_B = self._questions(index_B)
        name_EB = self._names(k, index_B)
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

    def _names(self, k: int, index_B: np.ndarray) -> Tensor:
        """name_EB: what each entity is called in this batch, a permutation of 0..E-1 in every column."""
        if self.of.permute == "example":
            drawn_BE = self.renaming[index_B]
        else:
            drawn_BE = np.repeat(self.renaming[k % len(self.renaming)][None], len(index_B), axis=0)
        return torch.from_numpy(np.argsort(drawn_BE, axis=1, kind="stable").T)

    def _questions(self, index_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """The questions, compressed and paraphrased where they are built."""
        whole_SB, lengths_B = self.of.questions.padded(index_B)
        how = self.of.paraphrase
        if how is None:
            return whole_SB, lengths_B
        word_SB = whole_SB.numpy()
        place_SB = np.minimum(self.of.questions.starts_N[index_B] + np.arange(len(word_SB))[:, None], len(self.kept) - 1)
        placeholder_SB = word_SB == ENTITY + self.of.entities
        chance_SB = np.where(how.dropped_V[word_SB], np.float32(2), self.kept[place_SB])
        luckiest_B = np.sort(chance_SB, axis=0)[:WORDS_LEFT].max(axis=0)
        stays_SB = (chance_SB <= np.maximum(how.keep, luckiest_B)) & (chance_SB < 2) | placeholder_SB
        # The chance of being replaced, given that it falls below `replace`, also says by which neighbour.
        which_SB = (self.replaced[place_SB] / max(how.replace, 1e-9) * how.neighbours_VK.shape[1]).astype(np.int64)
        neighbour_SB = how.neighbours_VK[word_SB, np.minimum(which_SB, how.neighbours_VK.shape[1] - 1)]
        said_SB = np.where(self.replaced[place_SB] < how.replace, neighbour_SB, word_SB)
        lengths_B = torch.from_numpy(stays_SB.sum(axis=0))
        first_SB = np.argsort(~stays_SB, axis=0, kind="stable")[: int(lengths_B.max())]  # what stays moves up, in order
        said_SB = np.where(np.take_along_axis(stays_SB, first_SB, 0), np.take_along_axis(said_SB, first_SB, 0), 0)
        return torch.from_numpy(said_SB), lengths_B


def _renamed(word_TB: Tensor, name_EB: Tensor) -> Tensor:
    entity_TB = word_TB - ENTITY
    inside_TB = (entity_TB >= 0) & (entity_TB < len(name_EB))
    return torch.where(inside_TB, ENTITY + name_EB.gather(0, entity_TB.clamp(0, len(name_EB) - 1)), word_TB)


def _present(word_TB: Tensor, entities: int) -> Tensor:
    """present_BE: which entities the texts hold."""
    entity_BT = (word_TB - ENTITY).t()
    other = torch.full_like(entity_BT, entities)
    entity_BT = torch.where((entity_BT >= 0) & (entity_BT < entities), entity_BT, other)
    present_BE = torch.zeros(len(entity_BT), entities + 1, dtype=torch.bool)
    return present_BE.scatter_(1, entity_BT, True)[:, :entities].contiguous()
