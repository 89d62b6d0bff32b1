"""Retrieval metrics: ranks and recalls as in the evaluation of Vendrov et al. (paper section 6.1).

Shapes: I images, C captions (those of an image stand together, in the order of the images), D units, K images of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lnexp.data.batches import bucketed
from lnexp.data.captions.pairs import Pairs
from lnexp.tasks.order_embeddings.model import OrderEmbedding

Distances = Callable[[Tensor, Tensor], Tensor]  # (v_ID, s_CD) -> [I, C]; smaller is closer

SCORES = 1 << 23  # that are held at once: 32 MiB in float32


@torch.no_grad()
def ranks(v_ID: Tensor, s_CD: Tensor, image_of_C: Tensor, distances: Distances) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the correct item among all, 0 = best; ties are broken by index.

    Args:
        v_ID, s_CD: embeddings.
        image_of_C: the image of each caption, ascending, each image at least once.
        distances: of all images to all captions.

    Returns:
        image_rank_C: for each caption, the rank of its image. caption_rank_I: for each image, the rank of its best caption.
    """
    images, captions = len(v_ID), len(s_CD)
    first_I = torch.searchsorted(image_of_C, torch.arange(images + 1, device=image_of_C.device)).tolist()
    index_C = torch.arange(captions, device=s_CD.device)
    own_C = torch.empty(captions, dtype=v_ID.dtype, device=s_CD.device)
    block = 32
    for i in range(0, images, block):
        c = slice(first_I[i], first_I[min(i + block, images)])
        near_KC = distances(v_ID[i : i + block], s_CD[c])
        own_C[c] = near_KC[image_of_C[c] - i, torch.arange(near_KC.shape[1], device=s_CD.device)]

    image_rank_C = torch.zeros(captions, dtype=torch.int64, device=s_CD.device)
    caption_rank_I = torch.zeros(images, dtype=torch.int64, device=s_CD.device)
    block = max(1, SCORES // captions)
    for i in range(0, images, block):
        image_K1 = torch.arange(i, min(i + block, images), device=s_CD.device)[:, None]
        e_KC = distances(v_ID[i : i + block], s_CD)
        own_KC = image_of_C == image_K1
        before_KC = (e_KC < own_C) | ((e_KC == own_C) & (image_K1 < image_of_C))
        image_rank_C += (before_KC & ~own_KC).sum(0)
        best_K1, at_K1 = e_KC.masked_fill(~own_KC, float("inf")).min(1, keepdim=True)
        before_KC = (e_KC < best_K1) | ((e_KC == best_K1) & (index_C < at_K1))
        caption_rank_I[i : i + block] = (before_KC & ~own_KC).sum(1)
    return image_rank_C.cpu().numpy(), caption_rank_I.cpu().numpy()


def metrics(ranks_N: np.ndarray) -> dict[str, float]:
    """recall_at_1, 5, 10 in percent; median_rank (half ranks rounded down) and mean_rank, which count from 1."""
    recalls = {f"recall_at_{k}": 100 * float(np.mean(ranks_N < k)) for k in (1, 5, 10)}
    return recalls | {"median_rank": float(np.floor(np.median(ranks_N)) + 1), "mean_rank": float(ranks_N.mean() + 1)}


@torch.no_grad()
def embed(model: OrderEmbedding, pairs: Pairs, images: np.ndarray, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """(v_ID, s_CD, image_of_C) of consecutive images and all their captions; captions are batched by length."""
    first, last = pairs.first_I[images[0]], pairs.first_I[images[-1]] + pairs.captions_I[images[-1]]
    v_ID = model.images(pairs.features(images, device))
    s_CD = v_ID.new_empty(last - first, v_ID.shape[1])
    for index in bucketed(pairs.words.lengths_N[first:last], batch_size=256):
        words_TB, lengths_B = pairs.words.padded(first + index, device)
        s_CD[torch.from_numpy(index).to(device)] = model.captions(words_TB, lengths_B)
    return v_ID, s_CD, torch.from_numpy(np.repeat(np.arange(len(images)), pairs.captions_I[images])).to(device)
