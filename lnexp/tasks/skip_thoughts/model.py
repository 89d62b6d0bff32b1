"""The skip-thoughts network: an encoder of sentences and decoders of their neighbours (paper section 6.3).

Shapes: B batch; T, S, R tokens of the longest sentence (source, before, after); D word size, H hidden, V vocabulary;
N all words to predict, those of both neighbours, without padding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data.text.vocabulary import Vocabulary
from lnexp.nn import Norm
from lnexp.tasks.base import Batch
from lnexp.tasks.recurrent import recurrent
from lnexp.tasks.skip_thoughts.encoder import SentenceEncoder


class SkipThoughtsNet(nn.Module):
    """A batch -> (h_NH, target_N): hidden states of the decoders at each word of both neighbours, and the words to predict.

    The encoder and both decoders share one embedding, the decoders one output layer. A decoder starts at the last hidden state of
    the encoder; it reads the preceding word, and a zero vector at the first step (public code).

    Args:
        vocabulary: words of the training text.
        norm: normalisation of the recurrent layers.
        word_size, hidden_size, max_words, condition_every_step, cell, placement, recurrent_products: see `SkipThoughts`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        norm: Norm,
        *,
        word_size: int,
        hidden_size: int,
        max_words: int,
        condition_every_step: bool,
        cell: str,
        placement: str,
        recurrent_products: str,
    ) -> None:
        super().__init__()
        word, hidden = word_size, hidden_size
        inputs = word + hidden if condition_every_step else word
        self.condition_every_step = condition_every_step
        self.encoder = SentenceEncoder(vocabulary, word, hidden, max_words, norm, cell, placement, recurrent_products)
        options = {"max_t": max_words, "products": recurrent_products}
        self.before, self.after = (recurrent(cell, placement, inputs, hidden, norm, **options) for _ in range(2))
        self.output = nn.utils.skip_init(nn.Linear, hidden, len(vocabulary))

        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)
        for rnn in (self.encoder.rnn, self.before, self.after):
            gates = len(rnn.weight_hh_l0) // hidden
            rnn.assign("weight_ih_l0", torch.empty(gates * hidden, rnn.input_size).uniform_(-0.1, 0.1))
            rnn.assign("weight_hh_l0", torch.cat([nn.init.orthogonal_(torch.empty(hidden, hidden)) for _ in range(gates)]))
            nn.init.zeros_(rnn.get_parameter("bias_ih_l0"))
            nn.init.zeros_(rnn.get_parameter("bias_hh_l0"))
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        read_1BH = self.encoder(batch["source_TB"], batch["source_lengths_B"])
        before_NH, before_N = self.decode(self.before, read_1BH, batch["before_SB"], batch["before_lengths_B"])
        after_NH, after_N = self.decode(self.after, read_1BH, batch["after_RB"], batch["after_lengths_B"])
        return torch.cat([before_NH, after_NH]), torch.cat([before_N, after_N])

    def decode(self, rnn: nn.Module, read_1BH: Tensor, words_SB: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states of one decoder at all words of its sentences without padding, and these words."""
        x_SBD = F.pad(self.encoder.embedding(words_SB[:-1]), (0, 0, 0, 0, 1, 0))
        if self.condition_every_step:
            x_SBD = torch.cat([x_SBD, read_1BH.expand(len(x_SBD), -1, -1)], dim=2)
        start = read_1BH if rnn.state_names == ("h0",) else (read_1BH, torch.zeros_like(read_1BH))
        h_SBH, _ = rnn(x_SBD, start, lengths=lengths_B)
        real_M = (torch.arange(len(words_SB))[:, None] < lengths_B).flatten().nonzero()[:, 0].to(words_SB.device)
        return h_SBH.flatten(0, 1).index_select(0, real_M), words_SB.flatten()[real_M]
