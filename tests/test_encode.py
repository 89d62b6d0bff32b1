"""A trained encoder in use: from Python and from the command line, wherever its run folder lies."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lnexp
from lnexp import paths
from lnexp.config import compose
from lnexp.data import sentence_eval
from lnexp.data.sentence_eval import Labelled
from lnexp.data.text.vocabulary import tokenize
from lnexp.data.text.word_vectors import WordVectors
from lnexp.encode import main
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.training import checkpoint
from lnexp.training.run import run
from tests.conftest import script
from tests.processes import environ

SENTENCES = ["The old red fox sings.", "cat runs .", "The zebra hides.", "The old owl sleeps."]


@pytest.fixture(scope="module")
def trained(storied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run, far from where it was made, its data gone."""
    home = tmp_path_factory.mktemp("home")
    given = ["task=skip_thoughts", "scale=smoke", "data=books", "data.set=tales", f"data.root={storied}", "wandb.mode=disabled"]
    cfg = compose([*given, "max_updates=20", f"results_dir={home}/results", f"data_dir={home}/data"])
    run(cfg)
    moved = tmp_path_factory.mktemp("moved") / "run"
    shutil.move(run_folder(cfg), moved)
    shutil.rmtree(home)
    return moved


def test_vectors_are_those_of_each_sentence_alone(trained: Path) -> None:
    """Whatever the order and the company."""
    encoder = lnexp.load_encoder(trained)
    vectors = encoder.encode(SENTENCES)
    assert vectors.shape == (4, 16) and vectors.dtype == np.float32
    module, state = encoder.module, checkpoint.load(trained / "ckpt.pt")
    assert state is not None
    assert torch.equal(module.embedding.weight, state["model"]["encoder.embedding.weight"])
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        numbers = torch.tensor([module.vocabulary.ids.get(w, 1) for w in tokenize(sentence)])
        h_1BH = module.rnn(module.embedding(numbers[:, None]))[1]
        np.testing.assert_allclose(vector, h_1BH[0, 0].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(vectors[0] - vectors[3]).max() > 1e-3


def test_texts_words_and_normalised_vectors(trained: Path) -> None:
    encoder = lnexp.load_encoder(str(trained))
    vectors = encoder.encode(SENTENCES)
    np.testing.assert_array_equal(vectors, encoder.encode([tokenize(s) for s in SENTENCES]))
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(SENTENCES, normalise=True), axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_unknown_words_can_be_guessed(trained: Path) -> None:
    """Published vectors that are a linear map of the encoder's own: a published zebra that lies at the cat is read as a cat."""
    module = lnexp.load_encoder(trained).module
    own = module.embedding.weight.detach().numpy()
    turned = own @ np.random.default_rng(0).normal(size=(12, 12))
    words = [*module.vocabulary.words[2:], "zebra"]
    published = WordVectors(words, np.vstack([turned[2:], turned[module.vocabulary.ids["cat"]]]))
    plain, guessing = lnexp.load_encoder(trained), lnexp.load_encoder(trained, published)
    cat, zebra = guessing.encode(["the cat hides", "the zebra hides"])
    np.testing.assert_allclose(zebra, cat, atol=1e-4)
    np.testing.assert_allclose(cat, plain.encode(["the cat hides"])[0], atol=1e-6)
    assert np.abs(plain.encode(["the zebra hides"])[0] - cat).max() > 1e-2


def test_the_command(trained: Path) -> None:
    given = [sys.executable, "-m", "lnexp.encode", str(trained), "--normalise"]
    text = "\n".join(SENTENCES).encode() + b"\n"
    done = subprocess.run(given, input=text, capture_output=True, env=environ(), cwd=paths.ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = lnexp.load_encoder(trained).encode(SENTENCES, normalise=True)
    np.testing.assert_array_equal(np.load(io.BytesIO(done.stdout)), wanted)


def give(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_empty_lines_give_zeros_and_one_warning(trained: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    """Rows stay beside their lines; also with other line ends and a byte order mark."""
    give(b"\xef\xbb\xbfThe owl sings.\r\n\r\ncat runs .\r\n   \r\n", monkeypatch)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written := io.BytesIO()))
    assert main([str(trained), "--normalise"]) == 0
    assert capfdbinary.readouterr().err == b"warning: 2 of 4 sentences have no words; their vectors are zeros (first: 2)\n"
    vectors = np.load(io.BytesIO(written.getvalue()))
    wanted = lnexp.load_encoder(trained).encode(["The owl sings.", "cat runs ."], normalise=True)
    np.testing.assert_allclose(vectors[[0, 2]], wanted, rtol=1e-5)
    assert not vectors[[1, 3]].any()
    with pytest.warns(UserWarning, match="1 of 1 sentences"):
        assert lnexp.load_encoder(trained).encode([""]).shape == (1, 16)


def test_sentences_in_another_encoding_take_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    give(b"A caf\xe9.\n", monkeypatch)
    assert main([str(trained)]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    (line,) = seen.err.splitlines()
    assert line.startswith("error: the sentences are not UTF-8")


def test_folders_that_hold_no_encoder(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a run"):
        lnexp.load_encoder(tmp_path)
    (tmp_path / "config.yaml").write_text("task: {name: mnist}\n")
    with pytest.raises(UserError, match="a run of task=mnist; encoders come from task=skip_thoughts"):
        lnexp.load_encoder(tmp_path)
    shutil.copy(trained / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="holds no readable"):
        lnexp.load_encoder(tmp_path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(trained: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(trained, tmp_path / "run")
    whole = (broken / "ckpt.pt").read_bytes()
    (broken / "ckpt.pt").write_bytes(whole[: len(whole) // 2])
    before = checkpoint.load(trained / "ckpt.prev.pt")
    assert before is not None
    weight = lnexp.load_encoder(broken).module.embedding.weight
    assert torch.equal(weight, before["model"]["encoder.embedding.weight"])


def test_a_trained_encoder_is_judged_on_sets_of_ones_own(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train, test = (tmp_path / name for name in sentence_eval.FILES["trec"])
    train.parent.mkdir()
    asked = ["DESC:def The old fox sings ?", "NUM:count Cat runs fast ?", "NUM:date The owl sleeps ?"]
    train.write_text("\n".join(asked * 10))
    test.write_text("\n".join(asked))
    probe = script("demo/probe.py").main
    assert probe([str(trained), "--eval-root", str(tmp_path), "--both"]) == 0
    fast, slow = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"trec_accuracy +100 +\d+ s", fast)
    assert re.fullmatch(r"trec_accuracy +100 +\d+ s, word for word", slow)
    assert probe([str(trained), "--eval-root", str(tmp_path), "--sets", "trex"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: --sets=trex: allowed are trec; did you mean trec?"
    assert probe([str(trained), "--eval-root", str(tmp_path), "--rows", "9"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: --rows=9: must be 100 or more"


def test_a_part_of_a_set_is_spread_over_it() -> None:
    """All of one class stand before all of the other in most files."""
    some = script("demo/probe.py").some
    label_N = np.repeat([0, 1], 175)
    whole = Labelled([["word", str(n)] for n in range(350)], label_N)
    part = some(whole, 120)
    assert len(part.sentences) == len(part.label_N) == 117 and part.label_N.sum() == 58
    assert part.sentences[-1] == ["word", "348"]
    assert some(whole, None) is whole and some(whole, 400).sentences == whole.sentences
    with_test_set = Labelled(whole.sentences, label_N, train=200)
    assert some(with_test_set, 120) is with_test_set


def test_importing_lnexp_does_not_import_torch() -> None:
    code = "import lnexp, sys; assert callable(lnexp.load_encoder); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environ(), cwd=paths.ROOT).returncode == 0
