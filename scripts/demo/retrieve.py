"""Search a data set with a trained order embedding: the best images for a sentence, the best sentences for an image.

    python scripts/demo/retrieve.py results/runs/order_embeddings/RUN "a dog runs on the beach" --image 1000268201_693b08cb0e.jpg

Prints what it finds and draws it as a page (HTML, one file), with the pictures where they are at hand.
"""

import argparse
import base64
import html
import io
import sys
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lnexp.data.captions.caption_set import CaptionSet
from lnexp.errors import UserError
from lnexp.tasks.order_embeddings.task import OrderEmbedding, OrderEmbeddings, embed
from lnexp.training import load as trained

SIDE = 220  # pixels of a picture on the page, at most
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 sans-serif; margin: 2em; }}
figure {{ display: inline-block; vertical-align: top; width: 230px; margin: 6px; }}
figcaption {{ font-size: 12px; color: #444; }} .none {{ background: #eee; padding: 60px 8px; word-break: break-all; }}
</style><h1>{title}</h1>{body}"""


class Searcher:
    """The images and captions of one split, embedded once; smaller distances are better matches."""

    def __init__(self, run: Path, split: str, root: str | None, pictures: Path | None) -> None:
        _, task, model = trained.load(run, root)
        if not isinstance(task, OrderEmbeddings) or not isinstance(model, OrderEmbedding):
            raise UserError(f"{run}: a run of {task.name}; only runs of order_embeddings can search")
        self.task, self.model, self.folder = task, model, pictures
        self.set: CaptionSet = task.set
        self.pairs = task.data[split]
        self.v_ID, self.s_CD, self.image_of_C = embed(model, self.pairs, np.arange(len(self.pairs)), "cpu")

    def images(self, sentence: str, n: int) -> list[tuple[int, float]]:
        """The best images for a sentence, as (row of the set, distance)."""
        numbers, missing = self.task.numbers(sentence)
        if missing:
            print(f"not in the vocabulary, so left out of account: {', '.join(missing)}", file=sys.stderr)
        with torch.no_grad():
            s_1D = self.model.captions(torch.tensor(numbers)[:, None], torch.tensor([len(numbers)]))
        e_I = self.task.distances(self.v_ID, s_1D)[:, 0]
        return [(int(self.pairs.rows_I[i]), float(e_I[i])) for i in e_I.argsort(stable=True)[:n]]

    def sentences(self, filename: str, n: int) -> tuple[int, list[tuple[str, bool, float]]]:
        """The row of an image, and the best sentences for it as (text, is it one of its own, distance)."""
        names = {self.set.images[row].filename: i for i, row in enumerate(self.pairs.rows_I)}
        if filename not in names:
            near = get_close_matches(filename, names, n=1)
            raise UserError(f"--image={filename}: not in this split" + (f"; did you mean {near[0]}?" if near else ""))
        i = names[filename]
        e_C = self.task.distances(self.v_ID[i : i + 1], self.s_CD)[0]
        found = []
        for c in e_C.argsort(stable=True)[:n].tolist():
            of = int(self.image_of_C[c])
            words = self.set.images[self.pairs.rows_I[of]].captions[c - int(self.pairs.first_I[of])]
            found.append((" ".join(words), of == i, float(e_C[c])))
        return int(self.pairs.rows_I[i]), found

    def figure(self, row: int, caption: str) -> str:
        """One image of the set with a line below it, as HTML; its name where the picture is not at hand."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of order_embeddings")
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="find images for it")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="find sentences for this image of the set")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test", help="where to search (default: test)")
    parser.add_argument("-n", type=int, default=5, help="how many to show (default: 5)")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the run")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures, if they are not in the data set's own")
    parser.add_argument("--out", type=Path, default=Path("retrieved.html"), help="the page (default: retrieved.html)")
    arguments = parser.parse_args()
    if not arguments.sentences and not arguments.image:
        parser.error("give a SENTENCE or --image FILE")
    searcher, body = Searcher(arguments.run, arguments.split, arguments.root, arguments.pictures), []
    for sentence in arguments.sentences:
        print(sentence)
        body.append(f"<h2>{html.escape(sentence)}</h2>")
        for row, distance in searcher.images(sentence, arguments.n):
            image = searcher.set.images[row]
            print(f"  {distance:8.4f}  {image.filename}  ({' '.join(image.captions[0])})")
            body.append(searcher.figure(row, f"{distance:.4f}: {' '.join(image.captions[0])}"))
    for filename in arguments.image:
        row, found = searcher.sentences(filename, arguments.n)
        print(filename)
        lines = [f"{distance:8.4f}  {'its own:  ' if own else ''}{text}" for text, own, distance in found]
        print("\n".join(f"  {line}" for line in lines))
        body.append(f"<h2>{html.escape(filename)}</h2>{searcher.figure(row, '')}<ol>")
        body.append("".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ol>")
    arguments.out.write_text(PAGE.format(title="Order embeddings", body="\n".join(body)), encoding="utf-8")
    print(f"drawn as {arguments.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
