"""Question answering: which entity fills the blank of a sentence about a passage (paper section 6.2, Figure 2).

Shapes: T words of a passage, S of a question, B batch, E entities, A answers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data.batches import Batches
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze.baselines import baselines
from lnexp.data.cloze.batches import ENTITY, cloze_batches
from lnexp.errors import UserError, check_choice, check_integer, check_number
from lnexp.nn import Norm
from lnexp.seeding import fold
from lnexp.tasks.base import Batch, Curve, Evaluation, Setting, Share, Task
from lnexp.tasks.question_answering.model import AttentiveReader
from lnexp.tasks.recurrent import check_recurrent

if TYPE_CHECKING:
    from lnexp.tasks.question_answering.answers import Answered

SHOWN = 5  # questions on the picture of samples


class QuestionAnswering(Task):
    """Cloze questions: which entity fills the blank of a sentence about a passage.

    Args:
        setting: data set and device.
        word_size: size of a word embedding (paper: 240).
        hidden_size: number of units of both LSTMs, of the attention and of the layer before the answer (paper: 240).
        bidirectional: whether the LSTMs read in both directions (paper: no).
        attention: tanh (paper) | bilinear (the bilinear term alone).
        use_dq_sims: whether the attention has a bilinear term of passage and question (name of the released code; paper: yes).
        answers: vocabulary, any word (paper) | entities, any entity of the data set.
        dropout: dropout probability of word embeddings and of the layer before the answer (paper: 0.5).
        cell: lstm (paper) | gru | rnn.
        placement: where the norm stands, see `lnexp.tasks.recurrent`.
    """

    name = "question_answering"
    revision = 1
    later_knobs: ClassVar = {"cell": "lstm", "placement": "all_gates"}
    calibration = (10, 500)
    paper_data = ("cnn",)
    curves = (
        Curve("valid/error", "validation error", "lower", "Figure 2"),
        Curve("valid/nll", "validation NLL (nats)", "lower", "extension"),
        Curve("valid/candidate_error", "validation error among the passage's entities", "lower", "extension"),
    )
    differences = (
        "The paper reads CNN news with 65,829 words (data=cnn); its articles cannot be redistributed. The runs here ask "
        "about BBC articles: sentences with a name blanked, shortened and paraphrased by nearest neighbours. So levels "
        "cannot be compared with the paper's, only the norms with one another.",
        "At desk scale the reader is small (64 units instead of 240), reads both ways, attends by the bilinear term alone, "
        "chooses among the entities and not among all words, has no dropout, and takes 3,000 updates at a learning rate of "
        "2e-3 instead of up to 800,000 at 8e-5. In trials the paper's form had learned nothing after 1,500.",
        "The paper has one learning rate for all norms. So has fig2; in fig2_tuned each norm has its own, the best of a grid "
        "on a seed that decides nothing else (fig2_rates). gain_sensitivity takes half as many updates as fig2 at desk scale.",
        "Entities are renamed afresh for each example at desk scale; the released code renames them batch by batch. Validation "
        "questions keep one renaming; the released code leaves their names alone, the paper says that they are renamed too.",
        "Batches hold passages of about equal length; the released code takes questions in the order of its files.",
        "Gradients are clipped to a total norm of 10. The released code compares the norm n with 100 and divides by sqrt(n), "
        "so that min(n, 10 sqrt(n)) is left of it.",
        "Batch normalisation evaluates with statistics estimated anew over training questions; the released code uses those of "
        "the validation batch. Training statistics leave padding out.",
        "BN-everywhere takes the statistics of W_dm d_t over all words of a batch together. At desk scale it normalises "
        "three terms outside the LSTMs, not five: the bilinear attention has no W_dm d_t and W_qm q.",
        "Matrices of equal shape are drawn one by one; the released code seeds its generator anew before each, so that all "
        "gates of both LSTMs start equal.",
        "The output layer has no place for a word beyond the vocabulary, which the released code adds.",
    )

    def __init__(
        self,
        setting: Setting,
        *,
        word_size: int,
        hidden_size: int,
        bidirectional: bool,
        attention: str,
        use_dq_sims: bool,
        answers: str,
        dropout: float,
        cell: str = "lstm",
        placement: str = "all_gates",
    ) -> None:
        check_recurrent(cell, placement)
        check_choice("task.attention", attention, ("tanh", "bilinear"))
        check_choice("task.answers", answers, ("vocabulary", "entities"))
        check_integer("task.word_size", word_size)
        check_integer("task.hidden_size", hidden_size)
        check_number("task.dropout", dropout, least=0, below=1)
        if attention == "bilinear" and not use_dq_sims:
            raise UserError(f"task.use_dq_sims={use_dq_sims}: attention=bilinear is this term alone, so it must be true")
        self.device = setting.device
        self.set = cloze.load(setting.data, setting.data_dir)
        every_word = answers == "vocabulary"
        self.first_answer = 0 if every_word else ENTITY  # token id of the first word that can be an answer
        self.answers = len(self.set.vocabulary) if every_word else self.set.entities
        self.make_model = partial(
            AttentiveReader,
            word_size=word_size,
            hidden_size=hidden_size,
            bidirectional=bidirectional,
            attention=attention,
            use_dq_sims=use_dq_sims,
            dropout=dropout,
            cell=cell,
            placement=placement,
        )

    def build(self, norm: Norm) -> nn.Module:
        train = self.set.splits["train"]
        longest = int(train.passages.lengths_N.max()), int(train.questions.lengths_N.max())
        return self.make_model(len(self.set.vocabulary), self.answers, longest, norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        """Batches of passages of about equal length, entities renamed afresh in each epoch.

        Without a seed validation questions come from the shortest passage to the longest, always with the same names. Training
        questions come in one fixed random order: norms are calibrated on the first batches.
        """
        questions = self.set.splits[split]
        if split == "train" and seed is None:
            seed, batch_size = fold(0, "statistics"), min(batch_size, len(questions))
        return cloze_batches(questions, batch_size, seed, epoch, share, self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits_BA, _ = model(batch)
        return F.cross_entropy(logits_BA, batch["answer_B"] - self.first_answer)

    def evaluations(self) -> tuple[Evaluation, ...]:
        return (
            Evaluation("valid", partial(self.evaluate, split="valid")),
            Evaluation("baselines", lambda model: baselines(self.set.splits["valid"]), when=("end",)),  # of no model
        )

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """error: share of wrong answers, the most probable of all that `answers` allows (the paper's metric).
        candidate_error: the same with the most probable entity of the passage. nll: mean negative log-likelihood in nats.
        """
        nll, right, right_among, examples = 0.0, 0, 0, 0
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
            examples += len(entity_B)
        return {"error": 1 - right / examples, "nll": nll / examples, "candidate_error": 1 - right_among / examples}

    def samples(self, model: nn.Module, folder: Path) -> None:
        """answers.png: some validation questions, their passages coloured by attention, and the model's answers."""
        from lnexp.tasks.question_answering.answers import draw  # here, as matplotlib takes half a second to import

        folder.mkdir(parents=True, exist_ok=True)
        draw(self.answers_of(model, SHOWN)).savefig(folder / "answers.png", dpi=130, metadata={"Software": None})

    def answers_of(self, model: nn.Module, n: int) -> list[Answered]:
        """The model's answers to n validation questions, evenly spaced from the shortest passage to the longest."""
        from lnexp.tasks.question_answering.answers import answer

        return answer(model, self.batches("valid", batch_size=1), self.set.vocabulary.words, self.first_answer, n)
