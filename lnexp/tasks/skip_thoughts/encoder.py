"""The sentence encoder of skip-thoughts, which outlives its training: `lnexp.load_encoder` (paper section 6.3).

Shapes: T words of the longest sentence, B sentences in a batch, N sentences, D units of a word, H units of the encoder.
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
from lnexp.nn import GRU, Norm

if TYPE_CHECKING:
    from lnexp.data.text.word_vectors import WordVectors

BATCH = 128  # sentences that are encoded at once


class SentenceEncoder(nn.Module):
    """(words_TB, lengths_B) -> the last state [1, B, H] of a GRU over embedded words.

    The words are part of its state, as the bytes of a JSON list: wherever the weights go, what they mean goes with them.
    """

    def __init__(self, vocabulary: Vocabulary, word_size: int, hidden_size: int, max_words: int, norm: Norm) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.utils.skip_init(nn.Embedding, len(vocabulary), word_size)
        self.rnn = GRU(word_size, hidden_size, norm=norm, max_t=max_words)
        listed = json.dumps(vocabulary.words, ensure_ascii=False).encode()
        self.register_buffer("words", torch.frombuffer(bytearray(listed), dtype=torch.uint8))

    def forward(self, words_TB: Tensor, lengths_B: Tensor) -> Tensor:
        return self.rnn(self.embedding(words_TB), lengths=lengths_B)[1]

    @torch.no_grad()
    def vectors(self, sentences: Sequence[Sequence[str]], published: WordVectors | None = None) -> np.ndarray:
        """Sentences of words -> float32 [N, H], in their order. They go through the GRU by length.

        Args:
            sentences: none of them empty.
            published: vectors from which those of unknown words are guessed (vocabulary expansion); None: they are UNKNOWN.
        """
        numbers, table_VD = self._numbered(sentences, published)
        out_NH = np.empty((len(numbers), self.rnn.hidden_size), np.float32)
        for index_B in bucketed(numbers.lengths_N, BATCH):
            words_TB, lengths_B = numbers.padded(index_B, str(table_VD.device))
            _, last_1BH = self.rnn(nn.functional.embedding(words_TB, table_VD), lengths=lengths_B)
            out_NH[index_B] = last_1BH[0].float().cpu().numpy()
        return out_NH

    @torch.no_grad()
    def means(self, sentences: Sequence[Sequence[str]], published: WordVectors | None = None) -> np.ndarray:
        """The same from the words alone, in no order: the mean of their embeddings, float32 [N, D]."""
        numbers, table_VD = self._numbered(sentences, published)
        words, starts_N = (torch.from_numpy(a.astype(np.int64)).to(table_VD.device) for a in (numbers.values, numbers.starts_N))
        return nn.functional.embedding_bag(words, table_VD, starts_N, mode="mean").float().cpu().numpy()

    def _numbered(self, sentences: Sequence[Sequence[str]], published: WordVectors | None) -> tuple[Sequences, Tensor]:
        """Sentences as numbers, and the table of embeddings that these point into."""
        vocabulary, table_VD = self.vocabulary, self.embedding.weight
        if published is not None:
            from lnexp.data.text.word_vectors import expand

            wanted = {word for sentence in sentences for word in sentence}
            new, new_WD = expand(vocabulary.words, table_VD.cpu().numpy(), published, wanted)
            vocabulary = Vocabulary([*vocabulary.words, *new])
            table_VD = torch.cat([table_VD, torch.from_numpy(new_WD).to(table_VD)])
        return Sequences.of([vocabulary.encode(sentence, end=False) for sentence in sentences]), table_VD
