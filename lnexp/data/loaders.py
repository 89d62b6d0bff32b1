"""The loader of each data set, and what identifies the data of a run: the files and packages that its configuration reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lnexp.data import binarized, mnist, sentence_eval
from lnexp.data.captions import caption_set
from lnexp.data.cloze import cloze_set
from lnexp.data.images import image_folder
from lnexp.data.prose import documents
from lnexp.data.sources import Fingerprint, safe_name, user_path
from lnexp.data.sources import fingerprint as fingerprint_of
from lnexp.data.strokes import stroke_set
from lnexp.data.text.books import ARCHIVE, TEXT
from lnexp.errors import unknown

LOADERS: dict[str, ModuleType] = {
    **dict.fromkeys(mnist.SOURCES, mnist),
    **dict.fromkeys(binarized.SOURCES, binarized),
    "emoji": caption_set,
    "karpathy": caption_set,
    "coco": caption_set,
    **dict.fromkeys(cloze_set.SOURCES, cloze_set),
    **dict.fromkeys(documents.NAMES, documents),
    "image_folder": image_folder,
    **dict.fromkeys(stroke_set.NAMES, stroke_set),
}


def files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The user's files that a run with this `data:` configuration reads: name relative to its folder -> path.

    Empty for published packages. Files of data.eval_root are included; their names start with "eval_root/".

    Raises:
        UserError: an unknown data.name, or a folder or file is missing.
    """
    if data["name"] is None:  # a task without a data set
        return {}
    found = _loader(data).files(data)
    return found | {f"eval_root/{name}": path for name, path in sentence_eval.files(data).items()}


def fingerprint(data: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint of all that a run with this `data:` configuration reads: the user's files and published packages.

    It does not depend on where the files lie, nor on their times.
    """
    return fingerprint_of(files(data), _loader(data).wheels(data) if data["name"] else [])


def default_set(data: Mapping[str, Any]) -> str:
    """The value of data.set if it is not given: what the file says ("dataset" in Karpathy's layout), else the name of data.root.

    Characters other than letters, digits, "-", "." and "_" become "_"; the suffix of a file is dropped.
    """
    if data.get("root") is None:
        return str(data["name"])
    stated = caption_set.set_name(data) if _loader(data) is caption_set else None
    path = user_path(data["root"]).resolve()
    name = stated or (path.name if path.is_dir() else TEXT.sub("", ARCHIVE.sub("", path.name)))
    return safe_name(name) or str(data["name"])


def _loader(data: Mapping[str, Any]) -> ModuleType:
    if data["name"] not in LOADERS:
        raise unknown("data", data["name"], LOADERS)
    return LOADERS[data["name"]]
