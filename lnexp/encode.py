"""Sentences to vectors with an encoder that task=skip_thoughts has trained (paper 6.3).

    python -m lnexp.encode RUN < sentences.txt > vectors.npy        RUN: the folder of a run; a sentence a line

    encoder = lnexp.load_encoder("results/runs/skip_thoughts/ln-b64-s0-0123abcd")
    vectors = encoder.encode(["A dog barks.", "Nobody hears it."])

Shapes: N sentences, H units of the encoder.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnexp.config import make_norm
from lnexp.data.text.vocabulary import Vocabulary, tokenize
from lnexp.errors import UserError
from lnexp.script import script
from lnexp.tasks.skip_thoughts.encoder import SentenceEncoder
from lnexp.training import load as trained

if TYPE_CHECKING:
    from lnexp.data.text.word_vectors import WordVectors


class Encoder:
    """A trained encoder for use: `encode` turns sentences into vectors.

    Args:
        module: in evaluation mode.
        published: vectors for vocabulary expansion; None: unknown words are all alike.
    """

    def __init__(self, module: SentenceEncoder, published: WordVectors | None = None) -> None:
        self.module, self.published = module, published

    @classmethod
    def load(cls, run: str | Path, published: WordVectors | None = None) -> Encoder:
        """The best encoder of a run. Nothing but the run's folder is needed.

        Raises:
            UserError: the folder is no run of task=skip_thoughts, or it has no checkpoint that can be read.
        """
        cfg = trained.configuration(Path(run))
        if cfg.task.name != "skip_thoughts":
            raise UserError(f"{run}: a run of task={cfg.task.name}; encoders come from task=skip_thoughts")
        weights = {
            name.removeprefix("encoder."): w for name, w in trained.weights(Path(run)).items() if name.startswith("encoder.")
        }
        vocabulary = Vocabulary(json.loads(weights["words"].numpy().tobytes()))
        task = cfg.task
        module = SentenceEncoder(
            vocabulary,
            task.word_size,
            task.hidden_size,
            task.max_words,
            make_norm(cfg),
            task.get("cell", "gru"),  # absent from the configuration of early runs
            task.get("placement", "all_gates"),
            task.get("recurrent_products", "float32"),
        )
        module.load_state_dict(weights)
        return cls(module.eval(), published)

    def encode(self, sentences: Sequence[str] | Sequence[Sequence[str]], normalise: bool = False) -> np.ndarray:
        """Sentences to vectors, float32 [N, H], row for row. A sentence without words gets zeros, and a warning counts these.

        Args:
            sentences: texts, which are split as the training text was, or lists of words.
            normalise: divide every vector by its length.
        """
        words = [tokenize(s) if isinstance(s, str) else list(s) for s in sentences]
        full = [number for number, sentence in enumerate(words) if sentence]
        vectors_NH = np.zeros((len(words), self.module.rnn.hidden_size), np.float32)
        if full:
            vectors_NH[full] = self.module.vectors([words[number] for number in full], self.published)
        if len(full) < len(words):
            first = next(number for number, sentence in enumerate(words, 1) if not sentence)
            message = (
                f"{len(words) - len(full)} of {len(words)} sentences have no words; their vectors are zeros (first: {first})"
            )
            warnings.warn(message, stacklevel=2)
        lengths_N1 = np.linalg.norm(vectors_NH, axis=1, keepdims=True)
        return vectors_NH / np.where(lengths_N1 > 0, lengths_N1, 1) if normalise else vectors_NH


def main(given: list[str] | None = None) -> int:
    """The command. Returns 0, or 2 after a mistake of the user, which is printed in one line."""
    parser = argparse.ArgumentParser(prog="python -m lnexp.encode", description="Sentences, one a line, to a NumPy array.")
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run of task=skip_thoughts")
    parser.add_argument("--normalise", action="store_true", help="divide every vector by its length")
    parser.add_argument("--expand", metavar="DATA_DIR", type=Path, help="predict unknown words from GloVe, kept in this folder")
    arguments = parser.parse_args(given)

    def write() -> None:
        if sys.stdout.isatty():
            raise UserError("the array would go to the terminal: add > vectors.npy")
        published = None
        if arguments.expand is not None:
            from lnexp.data.text import word_vectors

            published = word_vectors.load(arguments.expand)
        encoder = Encoder.load(arguments.run, published)
        try:
            lines = sys.stdin.buffer.read().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"the sentences are not UTF-8 ({error})") from error
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            vectors_NH = encoder.encode(lines[:-1] if lines[-1] == "" else lines, arguments.normalise)
        for warning in warned:
            print(f"warning: {warning.message}", file=sys.stderr)
        array = io.BytesIO()  # np.save cannot write to a pipe
        np.save(array, vectors_NH)
        sys.stdout.buffer.write(array.getbuffer())

    return script(write)


if __name__ == "__main__":
    sys.exit(main())
