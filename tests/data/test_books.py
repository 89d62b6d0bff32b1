"""Books of the user's: which files are read, what is left out and reported, licences and near-duplicates."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lnexp.data.cloze import cloze_set
from lnexp.data.prose import prose_set
from lnexp.data.text import books, duplicates
from lnexp.errors import UserError
from tests.data.test_cloze_generated import NOVELS
from tests.data.test_cloze_generated import story as names_story
from tests.data.test_prose import story

LICENCE = " ".join(f"You may copy it, give it away or re-use clause {n} under the terms of this licence." for n in range(40))


def texts_of(root: Path) -> tuple[dict[str, str], Counter[str]]:
    found = books.find(root)
    return {name: text for name, text, _ in books.read(found)}, found.skipped


def test_which_files_are_read(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / ".ipynb_checkpoints", root / "__MACOSX", elsewhere):
        folder.mkdir(parents=True)
    for path in (
        root / "a.txt",
        root / "b.TXT",
        root / "._a.txt",
        root / ".ipynb_checkpoints" / "a.txt",
        root / "__MACOSX" / "b.txt",
    ):
        path.write_text(path.name)
    (root / "c.txt.gz").write_bytes(gzip.compress(b"zipped"))
    (root / ".DS_Store").touch()
    (root / "notes.md").touch()
    (root / "README").touch()
    (root / "gone.txt").symlink_to("nowhere")
    (elsewhere / "d.txt").write_text("linked")
    (root / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)  # a circle
    with tarfile.open(root / "e.tar.gz", "w:gz") as archive:
        for name in ("in/f.TXT", "in/._f.txt", "in/f.pdf"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    texts, skipped = texts_of(root)
    assert texts == {
        "a.txt": "a.txt",
        "b.TXT": "b.TXT",
        "c.txt.gz": "zipped",
        "e.tar.gz/in/f.TXT": "abc",
        "link/d.txt": "linked",
    }
    assert skipped == {
        "hidden files": 5,
        "files ending with .md": 1,
        "files without a suffix": 1,
        "broken links": 1,
        "files ending with .pdf": 1,
    }


def test_all_empty_books_are_named(tmp_path: Path) -> None:
    for name, text in (("a.txt", ""), ("b.txt", "full"), ("c.txt", " \n")):
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"^a\.txt, c\.txt: an empty book"):
        texts_of(tmp_path)


@pytest.mark.parametrize("damaged", ["c.txt.gz", "c.tar.gz"])
def test_an_archive_damaged_in_the_middle_is_named(damaged: str, tmp_path: Path) -> None:
    content = gzip.compress(np.random.default_rng(0).bytes(5000), mtime=0)
    if damaged.endswith(".tar.gz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo("a.txt")
            member.size = 5000
            archive.addfile(member, io.BytesIO(bytes(np.random.default_rng(0).integers(32, 127, 5000).astype(np.uint8))))
        content = buffer.getvalue()
    (tmp_path / damaged).write_bytes(content[:1000] + b"\xff" * 40 + content[1040:])
    with pytest.raises(UserError, match=damaged):
        texts_of(tmp_path)


@pytest.mark.parametrize("n", [2, 3, 12])
def test_books_that_share_a_licence_are_used_without_it(n: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "books"
    root.mkdir()
    for k in range(n):
        (root / f"b{k}.txt").write_text(f"{story(k)}\n\n{LICENCE}\n")
    (root / ".DS_Store").touch()
    made = prose_set.load({"name": "books", "root": str(root)}, tmp_path, 200, 30)
    assert made.counts["train"]["documents"] + made.counts["valid"]["documents"] == n
    assert made.counts["left_out"]["sentences"] == 40 * n
    assert "licence" not in made.vocabulary.ids
    said = capsys.readouterr().err
    assert f"left out: 1 hidden files, {40 * n} sentences common to most documents" in said
    for k in range(n):
        (root / f"b{k}.txt").write_text(f"{names_story(k)}\n\n{LICENCE}\n")
    cloze = cloze_set.load({**NOVELS, "root": str(root)}, tmp_path)
    assert cloze.counts["novels"]["texts"] == n and "licence" not in cloze.vocabulary.ids
    assert cloze.counts["novels"]["left out: sentences common to most books"] == 40 * n


def test_copies_are_left_out_though_most_books_hold_their_sentences(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "books"
    root.mkdir()
    for k in range(5):
        (root / f"b{k}.txt").write_text(f"{story(max(k, 3))}\n\n{LICENCE}\n")  # four copies of one book, and another book
    made = prose_set.load({"name": "books", "root": str(root)}, tmp_path, 200, 30)
    assert made.counts["train"]["documents"] + made.counts["valid"]["documents"] == 2
    assert "3 documents that repeat others" in capsys.readouterr().err


def test_nothing_but_copies_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / "books"
    root.mkdir()
    for k in range(3):
        (root / f"b{k}.txt").write_text(story(1))
    with pytest.raises(UserError, match="no train document is left; 2 of 3 documents repeat others"):
        prose_set.load({"name": "books", "root": str(root)}, tmp_path, 200, 30)


def test_common_sentences() -> None:
    def of(*hashes: range) -> np.ndarray:
        return np.array([h for r in hashes for h in r], np.uint64)

    licence = range(1000, 1020)
    own = [range(100 * k + 1, 100 * k + 31) for k in range(6)]
    assert duplicates.common_sentences([of(r, licence) for r in own]).tolist() == list(licence)
    assert duplicates.common_sentences([of(r) for r in own]).tolist() == []
    few = [of(own[0], licence), of(own[1], licence), *(of(r) for r in own[2:])]
    assert duplicates.common_sentences(few).tolist() == []  # in two of six
    assert duplicates.common_sentences([of(own[0])] * 5 + [of(own[1])]).tolist() == []  # copies


def test_too_few_lines_of_a_corpus_are_named(tmp_path: Path) -> None:
    (tmp_path / "p1.txt").write_text("a line of text\n" * 1800)
    with pytest.raises(UserError, match=r"1,800 lines; 3,000 or more are needed"):
        prose_set.load({"name": "bookcorpus", "root": str(tmp_path)}, tmp_path / "data", 200, 30)
