"""Question answering: which entity fills the blank of a sentence about a passage (paper section 6.2, Figure 2).

Shapes: T words of a passage, S of a question, B batch, E entities, A answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data.batches import Batches
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze.baselines import baselines
from lnexp.data.cloze.batches import ENTITY, cloze_batches
from lnexp.errors import UserError, unknown
from lnexp.nn import Norm
from lnexp.seeding import fold
from lnexp.tasks.base import Batch, Curve, Share, Task
from lnexp.tasks.question_answering.model import AttentiveReader

CHOICES = {"attention": ("tanh", "bilinear"), "answers": ("vocabulary", "entities")}


class QuestionAnswering(Task):
    """Naming the entity that a question leaves blank.

    Args:
        word_size: units of a word's embedding (paper: 240).
        hidden_size: units of both LSTMs, of the attention and of the layer before the answer (paper: 240).
        bidirectional: the LSTMs read both ways (paper: no).
        attention: tanh (the paper's) | bilinear (the bilinear term alone).
        use_dq_sims: the attention's bilinear term of passage and question (the released code's name; paper: yes).
        answers: vocabulary, any word (paper) | entities, any entity the data have a number for.
        dropout: share of the units of words, and of the layer before the answer, that training leaves out (paper: a half).
    """

    name = "question_answering"
    revision = 1
    splits = ("valid",)
    finals = ("baselines",)
    calibration = (10, 500)
    paper_data = ("cnn",)
    curves = (
        Curve("valid/error", "validation error", "lower", "Figure 2"),
        Curve("valid/nll", "validation NLL (nats)", "lower", "extension"),
        Curve("valid/candidate_error", "validation error among the passage's entities", "lower", "extension"),
    )
    differences = (
        "The paper reads CNN news with 65,829 words (data=cnn); its articles cannot be passed on. The runs here ask about BBC "
        "articles: sentences with a name blanked, shortened and paraphrased by nearest neighbours. So levels cannot be compared "
        "with the paper's, only the norms with one another.",
        "At desk scale the reader is small (64 units instead of 240), reads both ways, attends by the bilinear term alone, "
        "chooses among the entities and not among all words, has no dropout, and takes 3,000 updates at a learning rate of 2e-3 "
        "instead of up to 800,000 at 8e-5. In trials the paper's form had learned nothing after 1,500.",
        "The paper has one learning rate for all norms. So has fig2; in fig2_tuned each norm has its own, the best of a grid "
        "on a seed that decides nothing else (fig2_rates). gain_sensitivity takes half as many updates as fig2 at desk scale.",
        "Entities are renamed afresh for each example at desk scale; the released code renames them batch by batch. Validation "
        "questions keep one renaming; the released code leaves their names alone, the paper says that they are renamed too.",
        "Batches hold passages of about equal length; the released code takes questions in the order of its files.",
        "Gradients are clipped to a total norm of 10. The released code compares the norm n with 100 and divides by sqrt(n), so "
        "that min(n, 10 sqrt(n)) is left of it.",
        "Batch normalisation evaluates with statistics estimated anew over training questions; the released code uses those of "
        "the validation batch. Training statistics leave padding out.",
        "BN-everywhere takes the statistics of W_dm d_t over all words of a batch together.",
        "Matrices of equal shape are drawn one by one; the released code seeds its generator anew before each, so that all gates "
        "of both LSTMs start equal.",
        "The output layer has no place for a word beyond the vocabulary, which the released code adds.",
    )

    def __init__(
        self,
        word_size: int,
        hidden_size: int,
        bidirectional: bool,
        attention: str,
        use_dq_sims: bool,
        answers: str,
        dropout: float,
        data: Mapping[str, Any],
        data_dir: Path,
        device: str,
    ) -> None:
        for key, value in {"attention": attention, "answers": answers}.items():
            if value not in CHOICES[key]:
                raise unknown(f"task.{key}", value, CHOICES[key])
        for key, size in {"word_size": word_size, "hidden_size": hidden_size}.items():
            if size < 1:
                raise UserError(f"task.{key}={size}: must be 1 or more")
        if not 0 <= dropout < 1:
            raise UserError(f"task.dropout={dropout}: must be 0 or more and below 1")
        if attention == "bilinear" and not use_dq_sims:
            raise UserError(f"task.use_dq_sims={use_dq_sims}: attention=bilinear is this term alone, so it must be true")
        self.word_size, self.hidden_size, self.bidirectional, self.dropout = word_size, hidden_size, bidirectional, dropout
        self.attention, self.use_dq_sims, self.device = attention, use_dq_sims, device
        self.set = cloze.load(data, data_dir)
        every_word = answers == "vocabulary"
        self.first_answer = 0 if every_word else ENTITY  # vocabulary number of the first word that can be an answer
        self.answers = len(self.set.vocabulary) if every_word else self.set.entities

    def build(self, norm: Norm) -> nn.Module:
        train = self.set.splits["train"]
        longest = int(train.passages.lengths_N.max()), int(train.questions.lengths_N.max())
        return AttentiveReader(len(self.set.vocabulary), self.answers, longest, self, norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        """Batches of passages of about equal length, entities renamed afresh in each epoch.

        Without a seed validation questions come from the shortest passage to the longest, always with the same names. Training
        questions come in one fixed random order: of the first so many batches, norms take statistics.
        """
        questions = self.set.splits[split]
        if split == "train" and seed is None:
            seed, batch_size = fold(0, "statistics"), min(batch_size, len(questions))
        return cloze_batches(questions, batch_size, seed, epoch, share, self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits_BA, _ = model(batch)
        return F.cross_entropy(logits_BA, batch["answer_B"] - self.first_answer)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """error: share of wrong answers, taking the likeliest of all that `answers` allows (the paper's measure).
        candidate_error: taking the likeliest entity of the passage. nll: mean negative log-likelihood in nats.

        The split "baselines" is what rules reach that do not learn: the error of each on validation, see `baselines`.
        """
        if split == "baselines":
            return baselines(self.set.splits["valid"])
        nll, right, right_among, cases = 0.0, 0, 0, 0
        batches = self.batches(split, batch_size=256)
        for k in range(len(batches)):
            batch = batches[k]
            logits_BA, _ = model(batch)
            entity_B, candidates_BE = batch["answer_B"] - ENTITY, batch["candidates_BE"]
            nll += F.cross_entropy(logits_BA.double(), batch["answer_B"] - self.first_answer, reduction="sum").item()
            right += int((logits_BA.argmax(1) == batch["answer_B"] - self.first_answer).sum())
            logits_BE = logits_BA[:, ENTITY - self.first_answer :][:, : self.set.entities]
            guess_B = logits_BE.masked_fill(~candidates_BE, -torch.inf).argmax(1)
            right_among += int(((guess_B == entity_B) & candidates_BE.gather(1, entity_B[:, None])[:, 0]).sum())
            cases += len(entity_B)
        return {"error": 1 - right / cases, "nll": nll / cases, "candidate_error": 1 - right_among / cases}
