"""Search in a split with a trained order embedding, and show what is found as a page (HTML, one file).

Shapes: I images, C captions, D units of the common space.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lnexp.data.captions.caption_set import CaptionSet
from lnexp.data.captions.pairs import Pairs
from lnexp.errors import UserError
from lnexp.tasks.order_embeddings.model import OrderEmbedding
from lnexp.tasks.order_embeddings.retrieval import Distances, embed

SIDE = 220  # largest side of a picture on the page, in pixels
PAGE = """<!doctype html><meta charset="utf-8"><title>Order embeddings</title><style>
body {{ font: 15px/1.4 sans-serif; margin: 2em; }}
figure {{ display: inline-block; vertical-align: top; width: 230px; margin: 6px; }}
figcaption {{ font-size: 12px; color: #444; }} .none {{ background: #eee; padding: 60px 8px; word-break: break-all; }}
</style><h1>Order embeddings</h1>{body}"""


class Searcher:
    """The images and captions of one split, embedded once. Smaller distances are better matches.

    Args:
        images: the data set.
        pairs: the images and captions of the split.
        model: trained.
        distances: (v_ID, s_CD) -> [I, C].
        encode: from a sentence to its token ids and its unknown words.
        device: torch device of the model.
        pictures: a further folder in which picture files are looked for.
    """

    def __init__(
        self,
        images: CaptionSet,
        pairs: Pairs,
        model: OrderEmbedding,
        distances: Distances,
        encode: Callable[[str], tuple[list[int], list[str]]],
        device: str = "cpu",
        pictures: Path | None = None,
    ) -> None:
        self.set, self.pairs, self.model, self.distances, self.encode = images, pairs, model, distances, encode
        self.folder = pictures
        self.v_ID, self.s_CD, self.image_of_C = embed(model, pairs, np.arange(len(pairs)), device)

    @torch.no_grad()
    def images(self, sentence: str, n: int) -> tuple[list[tuple[int, float]], list[str]]:
        """The n best images for a sentence as (row of the set, distance); and the words that are not in the vocabulary."""
        ids, missing = self.encode(sentence)
        s_1D = self.model.captions(torch.tensor(ids, device=self.v_ID.device)[:, None], torch.tensor([len(ids)]))
        e_I = self.distances(self.v_ID, s_1D)[:, 0]
        return [(int(self.pairs.rows_I[i]), float(e_I[i])) for i in e_I.argsort(stable=True)[:n].tolist()], missing

    @torch.no_grad()
    def sentences(self, filename: str, n: int) -> tuple[int, list[tuple[str, bool, float]]]:
        """The row of an image, and the n best captions for it as (text, whether it is one of the image's own, distance)."""
        index = {self.set.images[row].filename: i for i, row in enumerate(self.pairs.rows_I)}
        if filename not in index:
            near = get_close_matches(filename, index, n=1)
            raise UserError(f"--image={filename}: not in this split" + (f"; did you mean {near[0]}?" if near else ""))
        i = index[filename]
        e_C = self.distances(self.v_ID[i : i + 1], self.s_CD)[0]
        found = []
        for c in e_C.argsort(stable=True)[:n].tolist():
            of = int(self.image_of_C[c])
            words = self.set.images[self.pairs.rows_I[of]].captions[c - int(self.pairs.first_I[of])]
            found.append((" ".join(words), of == i, float(e_C[c])))
        return int(self.pairs.rows_I[i]), found

    def page(self, sentences: list[str], images: list[str], n: int) -> str:
        """The n best images of each sentence, and the n best captions of each image file, as HTML."""
        body = []
        for sentence in sentences:
            found, _ = self.images(sentence, n)
            body.append(f"<h2>{html.escape(sentence)}</h2>")
            body += [self._figure(row, f"{e:.4f}: {' '.join(self.set.images[row].captions[0])}") for row, e in found]
        for filename in images:
            row, captions = self.sentences(filename, n)
            items = (f"<li>{e:.4f}  {'its own: ' if own else ''}{html.escape(text)}</li>" for text, own, e in captions)
            body.append(f"<h2>{html.escape(filename)}</h2>{self._figure(row, '')}<ol>{''.join(items)}</ol>")
        return PAGE.format(body="\n".join(body))

    def _figure(self, row: int, caption: str) -> str:
        """The picture of a row, or its file name if there is none, with a caption."""
        image = self.set.images[row]
        picture = self.set.picture(row, self.folder)
        shown = f'<div class="none">{html.escape(image.filename)}</div>' if picture is None else _inline(picture)
        return f"<figure>{shown}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _inline(picture: Image.Image) -> str:
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
