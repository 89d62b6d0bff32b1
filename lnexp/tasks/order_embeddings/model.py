"""The order-embedding model: images and captions in one space (paper section 6.1; Vendrov et al., arXiv 1511.06361).

Shapes: B batch, T tokens of the longest caption, F features of an image, D units of the common space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.nn import Norm
from lnexp.tasks.recurrent import hidden_state, recurrent


class OrderEmbedding(nn.Module):
    """(features_BF, words_TB, lengths_B) -> (v_BD, s_BD): a linear map of images, the last hidden state of a GRU over captions.

    Both are scaled to length 1; with `positive`, for the order objective, absolute values are taken after that.

    Args:
        words, features: size of the vocabulary and of an image's features.
        word_size, hidden_size: size of a word embedding and of the common space.
        norm, cell, placement: of the recurrent layer.
        longest: largest number of steps with statistics of their own, for batch normalisation.
    """

    def __init__(
        self,
        words: int,
        features: int,
        word_size: int,
        hidden_size: int,
        norm: Norm,
        longest: int,
        positive: bool = True,
        cell: str = "gru",
        placement: str = "all_gates",
    ) -> None:
        super().__init__()
        self.embedding = nn.utils.skip_init(nn.Embedding, words, word_size)
        self.rnn = recurrent(cell, placement, word_size, hidden_size, norm, max_t=longest)
        self.image = nn.utils.skip_init(nn.Linear, features, hidden_size)
        self.positive = positive

        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for name in ("weight_ih_l0", "weight_hh_l0"):
            weight = torch.empty(getattr(self.rnn, name).shape)
            for gate in weight.split(hidden_size):
                initialise(gate)
            self.rnn.assign(name, weight)
        nn.init.xavier_uniform_(self.image.weight)
        for bias in (self.rnn.get_parameter("bias_ih_l0"), self.rnn.get_parameter("bias_hh_l0"), self.image.bias):
            nn.init.zeros_(bias)

    def forward(self, features_BF: Tensor, words_TB: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return self.images(features_BF), self.captions(words_TB, lengths_B)

    def images(self, features_BF: Tensor) -> Tensor:
        return self.normalised(self.image(features_BF))

    def captions(self, words_TB: Tensor, lengths_B: Tensor) -> Tensor:
        _, last = self.rnn(self.embedding(words_TB), lengths=lengths_B)
        return self.normalised(hidden_state(last)[0])

    def normalised(self, x_BD: Tensor) -> Tensor:
        x_BD = F.normalize(x_BD, dim=1)
        return x_BD.abs() if self.positive else x_BD


def initialise(weight: Tensor) -> None:
    """Initialisation of the released code: orthogonal if square, else uniform in [-0.1, 0.1]."""
    if weight.shape[0] == weight.shape[1]:
        nn.init.orthogonal_(weight)
    else:
        nn.init.uniform_(weight, -0.1, 0.1)


def hinge(e_BB: Tensor, margin: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss sum_{i != c} max(0, margin + e_cc - e_ic) + max(0, margin + e_ii - e_ic), and its two parts.

    Args:
        e_BB: e_BB[i, c] is the distance of image i and caption c; matching pairs lie on the diagonal.

    Returns:
        The sum; and {"images": contrastive images of each caption (first term), "captions": contrastive captions (second)}.
    """
    own_B = e_BB.diagonal()
    images_BB, captions_BB = (margin + own_B - e_BB).relu(), (margin + own_B[:, None] - e_BB).relu()
    matching_BB = torch.eye(len(own_B), dtype=torch.bool, device=e_BB.device)
    loss = (images_BB + captions_BB).masked_fill(matching_BB, 0).sum()
    with torch.no_grad():
        images = images_BB.masked_fill(matching_BB, 0).sum()
    return loss, {"images": images, "captions": loss.detach() - images}
