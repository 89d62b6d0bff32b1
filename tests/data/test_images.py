"""Folders of images: layouts, archives, damaged and strange files, and what is said about them."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lnexp.data import loaders
from lnexp.data.images import image_folder, image_set, layout, reading
from lnexp.errors import UserError
from tests.conftest import SHARED

CLASSES = ("cat", "dog", "owl")


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    """Coloured noise, or grey noise."""
    random = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(random.integers(0, 256, shape).astype(np.uint8), mode)


def write(folder: Path, *prefix: str, classes: tuple[str, ...] = CLASSES, each: int = 12, **options) -> None:
    for c, name in enumerate(classes):
        (folder.joinpath(*prefix) / name).mkdir(parents=True)
        for k in range(each):
            picture(1000 * c + k, **options).save(folder.joinpath(*prefix) / name / f"{k:03}.png")


def load(root: Path, tmp_path: Path, **options) -> image_set.ImageSet:
    return image_set.load({"name": "image_folder", "root": str(root), "set": "pets", **options}, tmp_path / "data")


def packed(folder: Path, path: Path, mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname=".")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of 30 images, without splits."""
    write(tmp_path / "pets", each=30)
    return tmp_path / "pets"


def test_a_folder_of_classes_is_cut_into_splits_by_the_names(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    splits, classes = load(root, tmp_path)
    assert classes == list(CLASSES)
    sizes = {split: len(images.y_N) for split, images in splits.items()}
    assert sum(sizes.values()) == 90 and sizes["train"] > 50 and all(sizes.values())
    pixels = {np.asarray(picture(1000 * c + k)).tobytes(): c for c in range(3) for k in range(30)}
    for images in splits.values():
        assert images.x_NYXC.shape[1:] == (8, 8, 3) and images.x_NYXC.dtype == np.uint8
        for x, y in zip(images.x_NYXC, images.y_N, strict=True):
            assert pixels.pop(x.tobytes()) == y  # each image once, under the label of its folder
    assert not pixels
    assert len(set(splits["train"].y_N[:12])) == 3  # the order mixes the classes
    said = capsys.readouterr().err
    assert f"{sizes['train']} train, {sizes['valid']} valid, {sizes['test']} test images of 3 classes, 8 x 8, RGB" in said
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.npy")}
    load(root, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.npy")} == before  # prepared once
    assert not list((tmp_path / "data").rglob("raw"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_an_archive_is_its_folder(root: Path, tmp_path: Path, suffix: str) -> None:
    path = packed(root, tmp_path / f"pets.{suffix}", "w:" + suffix[4:])
    given, packed_images = load(root, tmp_path), load(path, tmp_path)
    (tmp_path / "alone").mkdir()
    path.rename(tmp_path / "alone" / path.name)
    alone = load(tmp_path / "alone", tmp_path)  # a folder that holds one archive
    for split in ("train", "valid", "test"):
        for other in (packed_images, alone):
            np.testing.assert_array_equal(other.splits[split].x_NYXC, given.splits[split].x_NYXC)
            np.testing.assert_array_equal(other.splits[split].y_N, given.splits[split].y_N)


@pytest.mark.parametrize(("given", "cut"), [
    (("train", "val", "test"), {"train": 36, "valid": 36, "test": 36}),
    (("training", "Test"), {"test": 36}),
    (("train", "val"), {"test": 36}),
])  # fmt: skip
def test_splits_that_a_folder_has_are_kept(given: tuple[str, ...], cut: dict[str, int], tmp_path: Path) -> None:
    for split in given:
        write(tmp_path / "in" / "wrapper", split)
    splits, classes = load(tmp_path / "in", tmp_path)
    assert classes == list(CLASSES)
    sizes = {split: len(images.y_N) for split, images in splits.items()}
    assert {split: sizes[split] for split in cut} == cut
    assert sum(sizes.values()) == 36 * len(given)


def test_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    names = [("cat", "a", "1.png"), ("cat", "2.png"), ("dog", "b", "c", "3.png"), ("lonely.png",)]
    left_out = Counter[str]()
    places, classes = layout.assign(names, {("cat",), ("cat", "a"), ("dog",)}, "x", left_out)
    assert classes == ["cat", "dog"]
    assert [place and place[1] for place in places] == [0, 0, 1, None]
    assert left_out == {"images outside of a class folder": 1}


def test_what_cannot_be_read_is_named_and_left_out(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = (root / "cat" / "000.png").read_bytes()
    (root / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "text.jpg").write_text("no image")
    (root / "dog" / "empty.jpg").touch()
    (root / "owl" / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/tmp/x) (w) file\n")
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(root / "owl" / "deep.png")
    (root / "owl" / "._000.png").write_bytes(whole)
    (root / "owl" / "notes.txt").write_text("x")
    (root / "stray.png").write_bytes(whole)
    (root / "owl" / "gone.png").symlink_to(root / "nowhere.png")
    splits, _ = load(root, tmp_path)
    assert sum(len(images.y_N) for images in splits.values()) == 90
    said = capsys.readouterr().err
    assert "left out: 5 damaged images (cat/cut.png, dog/empty.jpg, dog/text.jpg, owl/deep.png, owl/program.png)" in said
    for what in ("1 hidden files", "1 files ending with .txt", "1 broken links", "1 images outside of a class folder"):
        assert what in said, what
    capsys.readouterr()
    load(root, tmp_path)
    assert "5 damaged images" in capsys.readouterr().err  # at every load


def test_an_archive_cannot_lead_out_of_itself(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = packed(root, tmp_path / "pets.tar", "w:")
    content = (root / "cat" / "000.png").read_bytes()
    with tarfile.open(path, "a:") as archive:
        for name in ("../cat/out.png", "/etc/cat/out.png", "cat/../../out.png"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind, name in (
            (tarfile.SYMTYPE, "cat/link.png"),
            (tarfile.LNKTYPE, "cat/hard.png"),
            (tarfile.FIFOTYPE, "cat/pipe.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    splits, _ = load(path, tmp_path)
    assert sum(len(images.y_N) for images in splits.values()) == 90
    said = capsys.readouterr().err
    assert "3 files with names that lead out of the archive" in said
    assert "3 links and other special files" in said
    assert not list(tmp_path.rglob("out.png"))


def test_grey_colour_and_both(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path / "grey", each=30, mode="L")
    splits, _ = load(tmp_path / "grey", tmp_path)
    assert splits["train"].x_NYXC.shape[3] == 1
    pixels = {np.asarray(picture(1000 * c + k, mode="L")).tobytes() for c in range(3) for k in range(30)}
    assert all(x.tobytes() in pixels for x in splits["test"].x_NYXC)  # grey values as they are
    assert load(tmp_path / "grey", tmp_path, colour="rgb").splits["train"].x_NYXC.shape[3] == 3
    for k in range(5):
        picture(k).save(tmp_path / "grey" / "cat" / f"coloured{k}.png")
    capsys.readouterr()
    assert load(tmp_path / "grey", tmp_path).splits["train"].x_NYXC.shape[3] == 3
    assert "90 of 95 images are grey, the others are not: all are read as RGB" in capsys.readouterr().err
    assert load(tmp_path / "grey", tmp_path, colour="grey").splits["train"].x_NYXC.shape[3] == 1
    with pytest.raises(UserError, match=r"data\.colour=pink: allowed are grey, rgb"):
        load(tmp_path / "grey", tmp_path, colour="pink")


def test_modes_of_pillow_become_three_colours() -> None:
    def decoded(image: Image.Image, kind: str) -> tuple[np.ndarray, bool]:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        return reading.decode(buffer.getvalue(), None)

    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (decoded(clear, "PNG")[0] == 255).all()  # transparent pixels on white
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (decoded(palette, "PNG")[0] == (10, 20, 30)).all()
    assert decoded(Image.new("CMYK", (4, 4)), "TIFF")[0].shape == (4, 4, 3)
    assert decoded(Image.new("1", (4, 4), 1), "PNG")[1] and decoded(Image.new("L", (4, 4)), "BMP")[1]


def test_different_sizes_are_refused_or_scaled(root: Path, tmp_path: Path) -> None:
    picture(1, (20, 10)).save(root / "cat" / "wide.png")
    with pytest.raises(UserError, match=r"images of different sizes \(90 of 8 x 8, 1 of 20 x 10\); give data\.size=32"):
        load(root, tmp_path)
    assert load(root, tmp_path, size=16).splits["train"].x_NYXC.shape[1:] == (16, 16, 3)
    with pytest.raises(UserError, match=r"data\.size=2: must be a whole number, 4 or more"):
        load(root, tmp_path, size=2)
    halves = np.zeros((10, 20, 3), np.uint8)
    halves[:, 5:15] = 200  # the middle square
    buffer = io.BytesIO()
    Image.fromarray(halves).save(buffer, "PNG")
    assert (reading.decode(buffer.getvalue(), 5)[0] == 200).all()


def refused(tmp_path: Path, root: Path, says: str, **options) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        load(root, tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").rglob("*.npy"))  # nothing half made is left


def test_mistakes_are_one_line(root: Path, tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "no", "there is no such folder; it should hold a folder of images for each class")
    (tmp_path / "file.zip").touch()
    refused(tmp_path, tmp_path / "file.zip", "is a file, but no .tar archive")
    (tmp_path / "half.tar.xz").write_bytes(packed(root, tmp_path / "p.tar.xz").read_bytes()[:2000])
    refused(tmp_path, tmp_path / "half.tar.xz", "half.tar.xz: not a complete tar archive")
    (tmp_path / "text.tar").write_text("no archive" * 100)
    refused(tmp_path, tmp_path / "text.tar", "text.tar: not a complete tar archive")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", "holds no image in a class folder (<class>/name.jpg")
    (root / "fox").mkdir()
    refused(tmp_path, root, "fox holds no readable image")
    (root / "fox" / "bad.png").touch()
    refused(tmp_path, root, "fox holds no readable image")
    write(tmp_path / "one", classes=("cat",))
    refused(tmp_path, tmp_path / "one", "one class only (cat)")
    (tmp_path / "bad" / "cat").mkdir(parents=True)
    (tmp_path / "bad" / "cat" / "bad.png").touch()
    refused(tmp_path, tmp_path / "bad", "none of 1 images can be read (cat/bad.png)")
    write(tmp_path / "few", classes=("cat", "dog"), each=1)
    refused(tmp_path, tmp_path / "few", "no image is left for the ")
    write(tmp_path / "tested", "test")
    refused(tmp_path, tmp_path / "tested", "there is no train/<class> beside test")
    write(tmp_path / "tested", "train", classes=("cat", "dog"))
    refused(tmp_path, tmp_path / "tested", "the train images have no class owl, which others have")


def test_the_fingerprint_is_that_of_the_files_read(root: Path) -> None:
    data = {"name": "image_folder", "root": str(root), "set": "pets"}
    before = loaders.fingerprint(data).digest
    (root / "notes.txt").write_text("not read")
    assert loaders.fingerprint(data).digest == before
    picture(7).save(root / "cat" / "new.png")
    assert loaders.fingerprint(data).digest != before
    assert loaders.default_set(data) == "pets"


def test_mnist_is_an_image_set(digits: Path, tmp_path: Path) -> None:
    splits, classes = image_set.load({"name": "idx", "root": str(digits)}, tmp_path)
    assert splits["train"].x_NYXC.shape == (1100, 28, 28, 1) and len(classes) == 10
    assert splits["test"].y_N.dtype == np.int64


def test_cifar_10_as_files(tmp_path: Path) -> None:
    archive = SHARED / "cifar10_images" / "cifar10_jpeg.tar.xz"
    if not archive.exists():
        pytest.skip("no CIFAR-10 beside the project")
    splits, classes = load(archive, tmp_path)
    assert {split: len(images.y_N) for split, images in splits.items()} == {"train": 45_765, "valid": 4_235, "test": 10_000}
    assert (np.bincount(splits["test"].y_N) == 1000).all() and classes[0] == "airplane"
    (about,) = (tmp_path / "data").rglob("about.json")
    assert len(json.loads(about.read_text())["notes"]) == 1  # nothing is left out
    assert image_folder.REVISION == 1
