"""Files of every format with random damage: each is read correctly or refused in one line, never with another exception."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnexp.data import loaders, mnist, sentence_eval
from lnexp.data.captions import caption_set
from lnexp.data.cloze import cloze_set
from lnexp.data.sentence_eval import Labelled, Related
from lnexp.data.text import books
from lnexp.errors import UserError

Files = dict[str, bytes]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape) + array.tobytes()


def digits() -> Files:
    files = {}
    for split, n in (("train", 24), ("t10k", 3)):
        files[f"{split}-images-idx3-ubyte"] = idx(np.full((n, 28, 28), 7, np.uint8))
        files[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(n, dtype=np.uint8) % 10))
    return files


def captions() -> Files:
    images = [
        {"filename": f"{split}{k}.jpg", "split": split, "sentences": [{"tokens": ["a", "dog"]}, {"tokens": ["café"]}]}
        for split in ("train", "val", "test")
        for k in range(2)
    ]
    buffer = io.BytesIO()
    np.save(buffer, np.ones((6, 4), np.float16))
    whole = json.dumps({"dataset": "tiny", "images": images}, ensure_ascii=False).encode()
    return {"dataset.json.gz": gzip.compress(whole), "features.npy": buffer.getvalue()}


def questions() -> Files:
    text = (
        "http://x\n\n@entity4 won . @entity1 cheered ! it rained .\n\n@placeholder won\n\n@entity4\n\n@entity1:A b\n@entity4:C\n"
    )
    return {f"{split}/{k}.question": text.encode() for split in ("training", "validation", "test") for k in range(2)}


def stories() -> Files:
    block = (
        "".join(f"{n} Tom met Mary about {n} apples .\n" for n in range(1, 21)) + "21 XXXXX told Mary .\tTom\t\tTom|Mary|Fox\n\n"
    )
    return {f"cbtest_NE_{ending}.txt": (block * 2).encode() for ending in ("train", "valid_2000ex", "test_2500ex")}


def library() -> Files:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("inner.txt")
        member.size = 12
        tar.addfile(member, io.BytesIO(b"One. Two, 3."))
    return {
        "a.txt": "Olé! A book.\n".encode(),
        "b.TXT": b"\xef\xbb\xbfAnother.\r\n",
        "c.txt.gz": gzip.compress(b"Third."),
        "d.tar.gz": archive.getvalue(),
    }


def evaluation() -> Files:
    files = {}
    for name in ("mr", "cr", "subj", "mpqa"):
        files |= {file: b"good , really\nbad !\n" * 8 for file in sentence_eval.FILES[name]}
    files |= {file: b"NUM:count How many ?\nDESC:def What is it ?\n" * 8 for file in sentence_eval.FILES["trec"]}
    header = b"pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
    return files | {file: header + b"1\tA dog\tA cat\t3.5\tNEUTRAL\n" * 14 for file in sentence_eval.FILES["sick"]}


def read_digits(root: Path) -> None:
    for x, y in mnist.load({"name": "idx", "root": root}, root).values():
        assert x.shape == (len(y), 784) and len(y) and x.dtype == y.dtype == np.uint8 and y.max() < 10


def read_captions(root: Path) -> None:
    loaded = caption_set.load({"name": "karpathy", "root": root, "set": "tiny", "captions": None}, root)
    assert loaded.features_ID.shape[0] == len(loaded.images) and np.isfinite(loaded.features_ID).all()
    assert all(isinstance(word, str) for image in loaded.images for caption in image.captions for word in caption)


def read_cloze(data: dict[str, object]) -> Callable[[Path], None]:
    def read(root: Path) -> None:
        with tempfile.TemporaryDirectory() as data_dir:
            loaded = cloze_set.load({**data, "root": root}, Path(data_dir))
            for of in loaded.splits.values():
                assert len(of) and (of.answer_N >= 0).all() and (of.answer_N < loaded.entities).all()
                assert of.passages.values.max() < len(loaded.vocabulary)

    return read


def read_books(root: Path) -> None:
    for _, text, _ in books.read(books.find(root)):
        assert text.strip() and "\ufeff" not in text[:1]


def read_evaluation(root: Path) -> None:
    for data in sentence_eval.load(root, root).values():
        if isinstance(data, Labelled):
            assert all(data.sentences) and len(data.sentences) == len(data.label_N)
        else:
            assert isinstance(data, Related) and all(data.left) and all(data.right) and sum(data.sizes) == len(data.score_N)
            assert ((data.score_N >= 1) & (data.score_N <= 5)).all()


FORMATS: dict[str, tuple[Callable[[], Files], Callable[[Path], None]]] = {
    "idx": (digits, read_digits),
    "karpathy": (captions, read_captions),
    "cnn": (questions, read_cloze({"name": "cnn", "passage": "top4", "vocabulary_size": 50, "permute": "batch"})),
    "cbt": (stories, read_cloze({"name": "cbt", "kind": "NE", "vocabulary_size": 50, "permute": "batch"})),
    "books": (library, read_books),
    "senteval": (evaluation, read_evaluation),
}


def unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def repacked(content: bytes, old: bytes) -> bytes:
    return gzip.compress(content) if old[:2] == b"\x1f\x8b" else content


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes | None]:
    """A function from a file's content to a damaged one; None: a folder in its place."""
    kind = draw(
        st.sampled_from(["cut", "flip", "drop", "double", "insert", "empty", "folder", "bom", "crlf", "utf16", "zip", "swap"])
    )
    inside = draw(st.booleans())  # of a compressed file: damage the content, not the packing
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 12))
    new = draw(
        st.binary(min_size=1, max_size=6)
        | st.sampled_from([b"\x00", b"\xff\xfe", b"NaN", b"-1", b"null", b"\t", b"\n", b"1e999"])
    )

    def damaged(old: bytes) -> bytes | None:
        content = unpacked(old) if inside else old
        at = int(where * len(content))
        if kind == "folder":
            return None
        result = {
            "cut": lambda: content[:at],
            "flip": lambda: content[:at] + bytes(255 - b for b in content[at : at + 1]) + content[at + 1 :],
            "drop": lambda: content[:at] + content[at + length :],
            "double": lambda: content[: at + length] + content[at:],
            "insert": lambda: content[:at] + new + content[at:],
            "empty": lambda: b"",
            "bom": lambda: b"\xef\xbb\xbf" + content,
            "crlf": lambda: content.replace(b"\n", b"\r\n"),
            "utf16": lambda: content.decode("utf-8", "replace").encode("utf-16"),
            "zip": lambda: b"PK\x03\x04" + content,
            "swap": lambda: content[at:] + content[:at],
        }[kind]()
        return repacked(result, old) if inside else result

    return damaged


@pytest.mark.parametrize("name", FORMATS)
def test_undamaged_files_are_read(name: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    for file, content in write().items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    read(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused_in_one_line(name: str, data: st.DataObject) -> None:
    write, read = FORMATS[name]
    files = write()
    chosen = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(damage())(files[chosen])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, whole in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            if file != chosen:
                (root / file).write_bytes(whole)
            elif content is None:
                (root / file).mkdir()
            else:
                (root / file).write_bytes(content)
        try:
            read(root)
            if name in loaders.LOADERS:
                loaders.fingerprint({"name": name, "root": root, "kind": "NE"})
        except UserError as error:
            message = str(error)
        else:
            return
    assert message and "\n" not in message


@pytest.mark.parametrize("name", FORMATS)
def test_all_empty_files_are_named(name: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    files = write()
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert all(file in str(error.value) for file in sorted(files)[:2] if not file.endswith(".gz"))
    assert "empty" in str(error.value) or "without a sentence" in str(error.value)
