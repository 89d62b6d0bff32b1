"""The sentence encoder of skip-thoughts; `lnexp.load_encoder` loads a trained one (paper section 6.3).

Shapes: T tokens of the longest sentence, B sentences in a batch, N sentences, D word size, H units of the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lnexp.data.batches import bucketed
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import Vocabulary
from lnexp.nn import Norm
from lnexp.tasks.recurrent import hidden_state, recurrent

if TYPE_CHECKING:
    from lnexp.data.text.word_vectors import WordVectors

BATCH = 128  # sentences


class SentenceEncoder(nn.Module):
    """(words_TB, lengths_B) -> the last hidden state [1, B, H] of a recurrent layer over word embeddings.

    The vocabulary is part of the state_dict, as the bytes of a JSON list, so that weights are never separated from it.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        word_size: int,
        hidden_size: int,
        max_words: int,
        norm: Norm,
        cell: str = "gru",
        placement: str = "all_gates",
        products: str = "float32",
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.utils.skip_init(nn.Embedding, len(vocabulary), word_size)
        self.rnn = recurrent(cell, placement, word_size, hidden_size, norm, max_t=max_words, products=products)
        listed = json.dumps(vocabulary.words, ensure_ascii=False).encode()
        self.register_buffer("words", torch.frombuffer(bytearray(listed), dtype=torch.uint8))

    def forward(self, words_TB: Tensor, lengths_B: Tensor) -> Tensor:
        return hidden_state(self.rnn(self.embedding(words_TB), lengths=lengths_B)[1])

    @torch.no_grad()
    def vectors(self, sentences: Sequence[Sequence[str]], published: WordVectors | None = None) -> np.ndarray:
        """Vectors of sentences, float32 [N, H]. Batches are made by length; rows are in the order of the sentences.

        Args:
            sentences: lists of words, none of them empty.
            published: word vectors from which embeddings of unknown words are predicted; None: they are UNKNOWN.
        """
        ids, table_VD = self._encoded(sentences, published)
        out_NH = np.empty((len(ids), self.rnn.hidden_size), np.float32)
        for index_B in bucketed(ids.lengths_N, BATCH):
            words_TB, lengths_B = ids.padded(index_B, str(table_VD.device))
            _, last = self.rnn(nn.functional.embedding(words_TB, table_VD), lengths=lengths_B)
            out_NH[index_B] = hidden_state(last)[0].float().cpu().numpy()
        return out_NH

    @torch.no_grad()
    def means(self, sentences: Sequence[Sequence[str]], published: WordVectors | None = None) -> np.ndarray:
        """Mean word embeddings of sentences, float32 [N, D]. Arguments: see `vectors`."""
        ids, table_VD = self._encoded(sentences, published)
        words, starts_N = (torch.from_numpy(a.astype(np.int64)).to(table_VD.device) for a in (ids.values, ids.starts_N))
        return nn.functional.embedding_bag(words, table_VD, starts_N, mode="mean").float().cpu().numpy()

    def _encoded(self, sentences: Sequence[Sequence[str]], published: WordVectors | None) -> tuple[Sequences, Tensor]:
        """Sentences as token ids, and the table of embeddings for these."""
        vocabulary, table_VD = self.vocabulary, self.embedding.weight
        if published is not None:
            from lnexp.data.text.word_vectors import expand

            wanted = {word for sentence in sentences for word in sentence}
            new, new_WD = expand(vocabulary.words, table_VD.cpu().numpy(), published, wanted)
            vocabulary = Vocabulary([*vocabulary.words, *new])
            table_VD = torch.cat([table_VD, torch.from_numpy(new_WD).to(table_VD)])
        return Sequences.of([vocabulary.encode(sentence, end=False) for sentence in sentences]), table_VD
