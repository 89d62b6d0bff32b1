"""The attentive reader of paper section 6.2, in the form of Cooijmans et al.'s released code.

    d_t, q   LSTMs over the words of the passage and of the question; q is the question's last state
    s_t      = (B d_t) . (B q)                                      one number a word
    m_t      = tanh(N(W_dm d_t) + N(W_qm q) + b_m + s_t)
    alpha    = softmax over t of w . m_t                            attention=bilinear: of s_t
    c        = sum_t alpha_t d_t
    g        = tanh(N(W_cg c) + N(W_qg q) + N(W_dg mean_t d_t) + b_g)
    logits   = W_ga g + b_a

Every norm acts inside the LSTMs; N is batch normalisation under BN-everywhere and the identity under all others.

Shapes: T words of a passage, S of a question, B batch, R real words of all passages, E units of a word, H hidden,
L directions, D = L H, A answers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.nn import Norm
from lnexp.tasks.base import Batch
from lnexp.tasks.recurrent import hidden_state, recurrent


class AttentiveReader(nn.Module):
    """A batch of questions -> (logits_BA, alpha_TB); alpha is 0 on padding and sums to 1 over each passage.

    Args:
        words, answers: size of the vocabulary, and number of possible answers.
        longest: number of tokens of the longest passage and of the longest question, for norms with statistics per step.
        norm: normalisation of the recurrent layers.
        word_size, hidden_size, bidirectional, attention, use_dq_sims, dropout, cell, placement: see `QuestionAnswering`.
    """

    def __init__(
        self,
        words: int,
        answers: int,
        longest: tuple[int, int],
        norm: Norm,
        *,
        word_size: int,
        hidden_size: int,
        bidirectional: bool,
        attention: str,
        use_dq_sims: bool,
        dropout: float,
        cell: str,
        placement: str,
    ) -> None:
        super().__init__()
        E, H = word_size, hidden_size
        D = 2 * H if bidirectional else H
        self.tanh_attention, self.dropout = attention == "tanh", dropout
        self.embedding = nn.Embedding.from_pretrained(uniform(words, E), freeze=False)
        self.passage, self.question = (Encoder(E, H, norm, bidirectional, n, cell, placement) for n in longest)
        self.B = linear(square(H, D)) if use_dq_sims else None
        if self.tanh_attention:
            self.W_dm = nn.Sequential(linear(square(H, D)), norm.term(H))
            self.W_qm = nn.Sequential(linear(uniform(H, D)), norm.term(H))
            self.b_m = nn.Parameter(torch.zeros(H))
            self.w = nn.Parameter(torch.empty(H).uniform_(-(H**-0.5), H**-0.5))
        self.W_cg = nn.Sequential(linear(uniform(H, D)), norm.term(H))
        self.W_qg = nn.Sequential(linear(uniform(H, D)), norm.term(H))
        self.W_dg = nn.Sequential(linear(uniform(H, D)), norm.term(H))
        self.b_g = nn.Parameter(torch.zeros(H))
        self.W_ga = linear(uniform(answers, H))
        self.b_a = nn.Parameter(torch.zeros(answers))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        passage_TB, question_SB, lengths_B = batch["passage_TB"], batch["question_SB"], batch["passage_lengths_B"]
        words_TBE, words_SBE = self.words(passage_TB, question_SB)
        d_TBD, _ = self.passage(words_TBE, lengths_B)
        _, q_BD = self.question(words_SBE, batch["question_lengths_B"])
        real_TB = (torch.arange(len(passage_TB))[:, None] < lengths_B).to(d_TBD.device)
        alpha_TB = self.attend(d_TBD, q_BD, real_TB)
        c_BD = (alpha_TB[..., None] * d_TBD).sum(0)
        mean_BD = d_TBD.sum(0) / real_TB.sum(0)[:, None]  # d is 0 on padding
        g_BH = torch.tanh(self.W_cg(c_BD) + self.W_qg(q_BD) + self.W_dg(mean_BD) + self.b_g)
        return self.W_ga(self.dropped(g_BH)) + self.b_a, alpha_TB

    def words(self, *texts: Tensor) -> list[Tensor]:
        """The embeddings of several texts [T, B], in one lookup: the gradient of the table is summed once."""
        flat_RE = self.dropped(self.embedding(torch.cat([text.flatten() for text in texts])))
        parts = flat_RE.split([text.numel() for text in texts])
        return [part.view(*text.shape, -1) for part, text in zip(parts, texts, strict=True)]

    def attend(self, d_TBD: Tensor, q_BD: Tensor, real_TB: Tensor) -> Tensor:
        """The attention alpha_TB. Padding enters neither sums nor batch statistics."""
        d_RD, case_R = d_TBD[real_TB], real_TB.nonzero()[:, 1]
        s_R = (self.B(d_RD) * self.B(q_BD)[case_R]).sum(1) if self.B is not None else d_RD.new_zeros(len(d_RD))
        score_R = s_R
        if self.tanh_attention:
            score_R = torch.tanh(self.W_dm(d_RD) + self.W_qm(q_BD)[case_R] + self.b_m + s_R[:, None]) @ self.w
        scores_TB = d_TBD.new_full(real_TB.shape, -math.inf).masked_scatter(real_TB, score_R)
        return scores_TB.softmax(0)

    def dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Encoder(nn.Module):
    """A recurrent layer over padded texts: x_TBE -> its states [T, B, D], 0 on padding, and the last of each direction, [B, D].

    The initial h is a learned h0 that starts at 0, the initial c is 0 (paper 6.2, released code). Under layer normalisation
    W_hh h0 = 0 is divided by sqrt(eps) at the first step, once; word embeddings are never 0.
    """

    def __init__(
        self, inputs: int, hidden: int, norm: Norm, bidirectional: bool, longest: int, cell: str, placement: str
    ) -> None:
        super().__init__()
        self.rnn = recurrent(cell, placement, inputs, hidden, norm, bidirectional=bidirectional, max_t=longest)
        for name in self.rnn.names():
            for weight in (f"weight_ih_{name}", f"weight_hh_{name}"):
                rows, columns = getattr(self.rnn, weight).shape
                self.rnn.assign(weight, torch.cat([square(hidden, columns) for _ in range(rows // hidden)]))  # gate by gate
            nn.init.zeros_(self.rnn.get_parameter(f"bias_ih_{name}"))
            nn.init.zeros_(self.rnn.get_parameter(f"bias_hh_{name}"))
        self.h0 = nn.Parameter(torch.zeros(len(self.rnn.names()), hidden))

    def forward(self, x_TBE: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        h0_LBH = self.h0[:, None].expand(-1, x_TBE.shape[1], -1)
        start = (h0_LBH, torch.zeros_like(h0_LBH)) if len(self.rnn.state_names) > 1 else h0_LBH
        out_TBD, last = self.rnn(x_TBE, start, lengths=lengths_B)
        return out_TBD, hidden_state(last).transpose(0, 1).flatten(1)


def uniform(rows: int, columns: int) -> Tensor:
    """Initialisation of the released code: uniform in [-r, r], r = sqrt(6 / (rows + columns + 1))."""
    r = math.sqrt(6 / (rows + columns + 1))
    return torch.empty(rows, columns).uniform_(-r, r)


def square(rows: int, columns: int) -> Tensor:
    """Initialisation of the released code: 0.05 times an orthogonal matrix if square, else `uniform`."""
    if rows != columns:
        return uniform(rows, columns)
    return 0.05 * nn.init.orthogonal_(torch.empty(rows, columns))


def linear(weight: Tensor) -> nn.Linear:
    """A linear layer without bias, with the given weight."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer
