"""CNN questions and the Children's Book Test, in files that the tests write in their formats; scripts/demo/show_examples."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from lnexp.data.cloze import cbt as cloze_cbt
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze import cnn as cloze_cnn
from lnexp.data.cloze.baselines import baselines
from lnexp.data.cloze.batches import cloze_batches
from lnexp.errors import UserError
from tests.conftest import call

ARTICLE = (
    "@entity4 won on 3 may . the crowd of 20,000 cheered @entity1 ! `` a fine day , '' said @entity4 . it rained . "
    "the judge of @entity2 was late ? nobody of @entity1 minded ."
)
QUESTION = "the judge of @placeholder was late on 3 may"
CNN = {"name": "cnn", "passage": "top4", "vocabulary_size": 100, "permute": "batch"}
CBT = {"name": "cbt", "kind": "NE", "vocabulary_size": 100, "permute": "example"}


def write_question(
    path: Path, article: str = ARTICLE, question: str = QUESTION, answer: str = "@entity2", entities: tuple[int, ...] = (1, 2, 4)
) -> None:
    explained = "\n".join(f"@entity{n}:Name: {n}" for n in entities)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"http://example.org/{path.name}\n\n{article}\n\n{question}\n\n{answer}\n\n{explained}\n")


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    """Two questions to train, one to validate, one to test."""
    root = tmp_path / "cnn"
    write_question(root / "training" / "b.question")
    write_question(root / "training" / "a.question", answer="@entity4")
    write_question(root / "validation" / "c.question", article="@entity7 met @entity2 .", entities=(2, 7))
    write_question(root / "test" / "d.question", answer="@entity1")
    return root


def words(loaded: cloze.ClozeSet, split: str, n: int = 0) -> tuple[str, str, int]:
    of = loaded.splits[split]
    texts = (of.passages[of.passage_N[n]], of.questions[n])
    passage, question = (" ".join(loaded.vocabulary.words[w] for w in text) for text in texts)
    return passage, question, int(of.answer_N[n])


def test_cnn_whole(cnn: Path, tmp_path: Path) -> None:
    loaded = cloze.load({**CNN, "root": str(cnn), "passage": "full"}, tmp_path)
    assert list(loaded.splits) == ["train", "valid", "test"]
    assert loaded.entities == 8  # 0..7
    assert loaded.vocabulary.words[2:11] == [*(f"@entity{n}" for n in range(8)), "@placeholder"]
    passage, question, answer = words(loaded, "train", 1)
    assert passage == ARTICLE.replace("3", "#num").replace("20,000", "#num")
    assert (question, answer) == ("the judge of @placeholder was late on #num may", 2)
    assert words(loaded, "train", 0)[2] == 4  # files in the order of their names
    assert words(loaded, "valid")[0] == "@entity7 <unk> @entity2 ."
    batch = cloze_batches(loaded.splits["train"], 2, seed=0)[0]
    assert batch["candidates_BE"].shape == (2, 8) and batch["candidates_BE"].sum(1).tolist() == [3, 3]


def test_cnn_four_sentences(cnn: Path, tmp_path: Path) -> None:
    loaded = cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    passage, _, _ = words(loaded, "train")
    assert passage == (
        "@entity4 won on #num may . the crowd of #num cheered @entity1 ! "
        "the judge of @entity2 was late ? nobody of @entity1 minded ."
    )
    assert loaded.counts["train"] == {"answer not in the sentences": 0, "passages": 2, "questions": 2}


def test_cnn_sentences_and_their_relevance() -> None:
    text = ["a", ".", "''", "b", "!", "!", "c", "d"]
    assert list(cloze_cnn.split_sentences(text)) == [["a", ".", "''"], ["b", "!", "!"], ["c", "d"]]
    article, best = "x one . y two . one two . z . one one . , , .", "x one . y two . one two . one one ."
    assert cloze_cnn.relevant(article.split(), ["one", "two", ",", "@placeholder"]) == best.split()
    assert cloze_cnn.relevant(["x", "one", "."], ["one"]) == ["x", "one", "."]


def test_cnn_counts_what_is_left_out(cnn: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_question(cnn / "training" / "e.question", answer="@entity9", entities=(1, 2, 4, 9))
    write_question(cnn / "training" / "f.question", entities=(1, 2))
    lost = "@entity2 . " + "the judge was late . " * 4
    write_question(cnn / "training" / "g.question", article=lost)
    loaded = cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    assert loaded.counts["train"] == {
        "answer not in the sentences": 1,  # stays, as in the paper
        "left out: answer not in the article": 1,
        "left out: entities that are not explained": 1,
        "passages": 3,
        "questions": 3,
    }
    said = capsys.readouterr().err
    assert "e.question: left out: answer not in the article" in said and "f.question" in said
    errors = baselines(loaded.splits["train"])
    assert all(error >= 1 / 3 for error in errors.values())  # nobody can answer that one


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "", "line 1: found '', should be the URL"),
        (2, "text", "line 2: found 'text', should be blank"),
        (3, " ", "line 3: found ' ', should be the article"),
        (5, "nothing is asked", "line 5: found 'nothing is asked', should be a question with @placeholder"),
        (7, "Paris", "line 7: found 'Paris', should be an entity such as @entity3"),
        (10, "@entity5", "line 10: found '@entity5', should be an entity and what it stands for, @entity3:..."),
    ],
)
def test_cnn_tells_file_and_line(line: int, text: str, message: str, cnn: Path, tmp_path: Path) -> None:
    path = cnn / "training" / "b.question"
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    assert str(error.value) == f"{path}, {message}"


def test_cnn_says_what_is_missing(cnn: Path, tmp_path: Path) -> None:
    path = cnn / "training" / "b.question"
    path.write_text("http://example.org\n\nAn article .\n")
    with pytest.raises(UserError, match="line 4: found the end of the file, should be blank"):
        cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    path.write_bytes(b"\xfe")
    with pytest.raises(UserError, match=r"b\.question: not UTF-8"):
        cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    with pytest.raises(UserError, match=r"data\.passage=top3: allowed are full, top4; did you mean top4\?"):
        cloze.load({**CNN, "root": str(cnn), "passage": "top3"}, tmp_path)
    (cnn / "validation" / "c.question").unlink()
    with pytest.raises(UserError, match=r"validation/ holds no \.question file"):
        cloze.load({**CNN, "root": str(cnn)}, tmp_path)
    with pytest.raises(UserError, match=r"data\.root=.*: there is no such folder"):
        cloze.load({**CNN, "root": str(tmp_path / "none")}, tmp_path)


def write_story(path: Path, answers: list[str]) -> None:
    """A question of twenty sentences for each answer, as the Children's Book Test has them."""
    blocks = []
    for answer in answers:
        lines = [f"{n} Then Tom asked Mary about {n} Apples ." for n in range(1, 20)] + ["20 The Fox and mary laughed ."]
        lines.append(f"21 But XXXXX told Mary nothing .\t{answer}\t\tTom|Mary|Fox|Duck")
        blocks.append("\n".join(lines) + "\n")
    path.write_text("\n".join(blocks))


@pytest.fixture
def cbt(tmp_path: Path) -> Path:
    root = tmp_path / "cbt"
    root.mkdir()
    for ending, answers in (("train", ["Tom", "Fox", "Duck"]), ("valid_2000ex", ["Mary"]), ("test_2500ex", ["Fox"])):
        write_story(root / f"cbtest_NE_{ending}.txt", answers)
    return root


def test_cbt(cbt: Path, tmp_path: Path) -> None:
    loaded = cloze.load({**CBT, "root": str(cbt)}, tmp_path)
    assert loaded.entities == cloze_cbt.CANDIDATES
    assert loaded.counts["train"] == {"left out: answer not in the passage": 1, "passages": 2, "questions": 2}
    passage, question, answer = words(loaded, "train", 1)
    assert passage.startswith("then @entity0 asked @entity1 about #num apples . then")
    assert passage.endswith("the @entity2 and mary laughed .")  # candidates are capitalised as they stand
    assert (question, answer) == ("but @placeholder told @entity1 nothing .", 2)
    assert words(loaded, "valid")[2] == 1
    batch = cloze_batches(loaded.splits["valid"], 1)[0]
    assert batch["candidates_BE"].sum() == 3 and batch["passage_lengths_B"].tolist() == [19 * 8 + 6]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n3 Then", "\n4 Then", "line 3: begins with '4', should begin with 3"),
        ("\t\t", "\t", "line 21: has 2 tabs, should be question, tab, answer, two tabs, candidates"),
        ("XXXXX", "who", "line 21: the question has no XXXXX"),
        ("\tTom\t", "\tTim\t", r"line 21: the answer 'Tim' should be one of at most 10 candidates, not Tom\|Mary"),
        ("21 But XXXXX told Mary nothing .\tDuck\t\tTom|Mary|Fox|Duck\n", "", "ends within a question, before its line 21"),
    ],
)
def test_cbt_tells_file_and_line(old: str, new: str, message: str, cbt: Path, tmp_path: Path) -> None:
    path = cbt / "cbtest_NE_train.txt"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"cbtest_NE_train\.txt[,:] {message}"):
        cloze.load({**CBT, "root": str(cbt)}, tmp_path)


def test_cbt_says_what_is_missing(cbt: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cbtest_CN_train\.txt\[\.gz\], .* missing"):
        cloze.load({**CBT, "root": str(cbt), "kind": "CN"}, tmp_path)
    with pytest.raises(UserError, match=r"data\.kind=VN: allowed are CN, NE"):
        cloze.load({**CBT, "root": str(cbt), "kind": "VN"}, tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        cloze.load({**CBT, "root": str(tmp_path / "none")}, tmp_path)


def test_examples_are_shown(cbt: Path, tmp_path: Path) -> None:
    show = partial(call, "scripts/demo/show_examples.py", "--data-dir", tmp_path)
    done = show("--data", "cbt", "--root", cbt, "--split", "train", "-n", 2)
    lines = done.stdout.splitlines()
    starts = [line.split(":")[0] for line in lines if line[:1].strip()]
    assert starts == ["passage", "question", "answer", "candidates"] * 2, done.stderr
    assert any("@placeholder told @entity" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cbtt"], "--data=cbtt: allowed are bbc_cloze, cbt, cnn, novels; did you mean cbt"),
        (["--data", "cbt"], "--data=cbt: reads files of your own; give their folder with --root FOLDER"),
        (
            ["--data", "cbt", "--root", "{cbt}", "--split", "tset"],
            "--split=tset: allowed are test, train, valid; did you mean test",
        ),
        (["--data", "cbt", "--root", "{cbt}", "-n", "0"], "-n 0: must be 1 or more"),
    ],
)
def test_examples_name_what_is_wrong(arguments: list[str], message: str, cbt: Path, tmp_path: Path) -> None:
    given = [argument.format(cbt=cbt) for argument in arguments]
    done = call("scripts/demo/show_examples.py", "--data-dir", tmp_path, *given)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
