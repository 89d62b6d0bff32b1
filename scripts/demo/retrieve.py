"""Search a data set with a trained order embedding: the best images for a sentence, the best captions for an image.

    python scripts/demo/retrieve.py results/runs/order_embeddings/RUN "a dog runs on the beach" --image 1000268201_693b08cb0e.jpg

Prints what it finds and writes it as a page (HTML, one file), with the pictures where their files are found.
"""

import argparse
import sys
from pathlib import Path

from lnexp.errors import UserError
from lnexp.script import script
from lnexp.tasks.order_embeddings.model import OrderEmbedding
from lnexp.tasks.order_embeddings.search import Searcher
from lnexp.tasks.order_embeddings.task import OrderEmbeddings
from lnexp.training.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of order_embeddings")
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="find images for it")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="find captions for this image of the set")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test", help="where to search (default: test)")
    parser.add_argument("-n", type=int, default=5, help="number of results (default: 5)")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the run")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures, if they are not in the data set's own")
    parser.add_argument("--out", type=Path, default=Path("retrieved.html"), help="the page (default: retrieved.html)")
    arguments = parser.parse_args()
    if not arguments.sentences and not arguments.image:
        parser.error("give a SENTENCE or --image FILE")
    _, task, model = load(arguments.run, arguments.root)
    if not isinstance(task, OrderEmbeddings) or not isinstance(model, OrderEmbedding):
        raise UserError(f"{arguments.run}: a run of {task.name}; only runs of order_embeddings can search")
    pairs = task.data[arguments.split]
    searcher = Searcher(task.set, pairs, model, task.distances, task.encode, pictures=arguments.pictures)
    for sentence in arguments.sentences:
        found, missing = searcher.images(sentence, arguments.n)
        if missing:
            print(f"not in the vocabulary, therefore ignored: {', '.join(missing)}", file=sys.stderr)
        print(sentence)
        for row, distance in found:
            image = task.set.images[row]
            print(f"  {distance:8.4f}  {image.filename}  ({' '.join(image.captions[0])})")
    for filename in arguments.image:
        print(filename)
        for text, own, distance in searcher.sentences(filename, arguments.n)[1]:
            print(f"  {distance:8.4f}  {'its own:  ' if own else ''}{text}")
    arguments.out.write_text(searcher.page(arguments.sentences, arguments.image, arguments.n), encoding="utf-8")
    print(f"drawn as {arguments.out}")


if __name__ == "__main__":
    sys.exit(script(main))
