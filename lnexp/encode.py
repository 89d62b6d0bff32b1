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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnexp.config import make_norm
from lnexp.data.text.vocabulary import Vocabulary, tokenize
from lnexp.errors import UserError
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
        )
        module.load_state_dict(weights)
        return cls(module.eval(), published)

    def encode(self, sentences: Sequence[str] | Sequence[Sequence[str]], normalise: bool = False) -> np.ndarray:
        """Sentences -> float32 [N, H], row for row.

        Args:
            sentences: texts, which are split as the training text was, or lists of words.
            normalise: scale every vector to length 1.

        Raises:
            UserError: a sentence without a word.
        """
        words = [tokenize(s) if isinstance(s, str) else list(s) for s in sentences]
        for number, sentence in enumerate(words, 1):
            if not sentence:
                raise UserError(f"sentence {number} has no words: {sentences[number - 1]!r}")
        vectors_NH = self.module.vectors(words, self.published)
        return vectors_NH / np.linalg.norm(vectors_NH, axis=1, keepdims=True) if normalise else vectors_NH


def main(given: list[str] | None = None) -> int:
    """The command: 0 when all is well, 2 after a mistake of the user, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m lnexp.encode", description="Sentences, one a line, to a NumPy array.")
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run of task=skip_thoughts")
    parser.add_argument("--normalise", action="store_true", help="scale every vector to length 1")
    parser.add_argument("--expand", metavar="DATA_DIR", type=Path, help="guess unknown words from GloVe, kept in this folder")
    arguments = parser.parse_args(given)
    try:
        if sys.stdout.isatty():
            raise UserError("the array would go to the terminal: add > vectors.npy")
        published = None
        if arguments.expand is not None:
            from lnexp.data.text import word_vectors

            published = word_vectors.load(arguments.expand)
        encoder = Encoder.load(arguments.run, published)
        try:
            lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"the sentences are not UTF-8 ({error})") from error
        array = io.BytesIO()  # np.save cannot write to a pipe
        np.save(array, encoder.encode(lines[:-1] if lines[-1] == "" else lines, arguments.normalise))
        sys.stdout.buffer.write(array.getbuffer())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
