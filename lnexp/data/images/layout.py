"""Split and class of every image of a folder, from its name alone.

    <class>/.../name.jpg          as torchvision's ImageFolder: splits are drawn by a hash of the name
    train/<class>/.../name.jpg    and test/ or val/ (valid, validation) with the same classes

A folder that holds all the others is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from lnexp.errors import UserError
from lnexp.seeding import fold

Parts = tuple[str, ...]
SPLITS = {"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
PARTS = 12  # of a set without splits, two twelfths are the test set and one the validation set


def assign(
    names: list[Parts], folders: Collection[Parts], root: str, left_out: Counter[str]
) -> tuple[list[tuple[str, int] | None], list[str]]:
    """(split, class number) of each name, None for what is left out, which is counted; and the names of the classes, sorted.

    Args:
        names: parts of the names of readable images.
        folders: parts of the names of all folders: those of classes without an image are an error.
        root: the folder, as given.
        left_out: reason -> number of files.

    Raises:
        UserError: no image, a class without one, fewer than two classes, or splits that do not fit together.
    """
    if not names:
        raise UserError(f"data.root={root}: holds no image in a class folder (<class>/name.jpg, or train/<class>/name.jpg)")
    depth = _wrapper(names)
    rests = [name[depth:] for name in names]
    split_names = any(rest[0].lower() in SPLITS and len(rest) > 2 for rest in rests)
    found = [_place(rest, split_names, left_out) for rest in rests]
    classes = sorted({place[1] for place in found if place})
    for folder in sorted(folders):
        place = _place((*folder[depth:], ""), split_names, Counter()) if folder[:depth] == names[0][:depth] else None
        hidden = any(part.startswith(".") for part in folder)
        exact = len(folder) == depth + (2 if split_names else 1)
        if place and exact and not hidden and place not in found:
            raise UserError(f"data.root={root}: {'/'.join(folder)} holds no readable image")
    if len(classes) < 2:
        raise UserError(
            f"data.root={root}: one class only ({', '.join(classes)}); it should hold a folder for each of two or more"
        )
    of_split = {split: {c for s, c in filter(None, found) if s == split} for split in ("train", "valid", "test")}
    if split_names:
        _check(of_split, classes, root)
    return [
        (_split(place[0], name, of_split), classes.index(place[1])) if place else None
        for place, name in zip(found, ("/".join(rest) for rest in rests), strict=True)
    ], classes


def _wrapper(names: Iterable[Parts]) -> int:
    """How many folders hold all the others."""
    names, depth = list(names), 0
    while all(len(name) > depth + 2 for name in names) and len({name[depth] for name in names}) == 1:
        if names[0][depth].lower() in SPLITS:
            break
        depth += 1
    return depth


def _place(rest: Parts, split_names: bool, left_out: Counter[str]) -> tuple[str, str] | None:
    """Split ("" where there are none) and class of a name."""
    if split_names and rest[0].lower() not in SPLITS:
        left_out["images outside of train, val and test"] += 1
    elif len(rest) < 2 + split_names:
        left_out["images outside of a class folder"] += 1
    else:
        return (SPLITS[rest[0].lower()], rest[1]) if split_names else ("", rest[0])
    return None


def _check(of_split: dict[str, set[str]], classes: list[str], root: str) -> None:
    if not of_split["train"]:
        raise UserError(f"data.root={root}: there is no train/<class> beside {', '.join(s for s, c in of_split.items() if c)}")
    for split, own in of_split.items():
        missing = sorted(set(classes) - own)
        if own and missing:
            raise UserError(f"data.root={root}: the {split} images have no class {missing[0]}, which others have")


def _split(given: str, name: str, of_split: dict[str, set[str]]) -> str:
    """The split of an image. What is missing is cut from the others by a hash of the name."""
    if given == "test" or (given == "valid" and of_split["test"]):
        return given
    if given == "valid":  # without a test set it takes its place
        return "test"
    part = fold(0, "images", name) % PARTS
    cuts_test = not of_split["test"] and not of_split["valid"]
    cuts_valid = not of_split["valid"] or not of_split["test"]
    if part < 2 and cuts_test:
        return "test"
    return "valid" if part == 2 and cuts_valid else "train"
