"""Pictures with COCO's annotations, where each shows one category."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Source, choose_split, pictures_in, split_name
from detrojan.data.walking import first_bytes, is_file, open_plain
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_MOST_BYTES = 2**29
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
#: names of folders that hold annotations only: the pictures lie beside them
_OWN_FOLDER = ("annot", "label")
_PIECES = re.compile(r"[A-Za-z]+")


class CocoFolder(Format):
    """A folder with COCO's annotations, or their file."""

    kind = "a folder with COCO's annotations"
    listed = (("coco", "pictures with annotations as COCO has them, one category for each picture"),)
    precedence = 56

    def recognises(self, place: Place) -> bool:
        """Tell whether a file begins as annotations do, or a folder holds such a file."""
        return bool(annotation_files(place.path)) if place.is_folder else is_coco(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that files of annotations are named after."""
        return tuple(annotation_files(place.path)) if place.is_folder else ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the annotations of a split."""
        return read_coco(place.path, split, unlabelled=unlabelled)


def is_coco(path: Path) -> bool:
    """Tell whether a file begins as annotations do."""
    try:
        head = first_bytes(path, 2**16) if is_file(path) else b""
    except DataError:
        return False
    return head.lstrip()[:1] == b"{" and any(key in head for key in _KEYS)


def annotation_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of annotations in a folder by split, "" where a name tells none."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if path.name.startswith(".") or not is_coco(path):
            continue
        split = _split_of(path) or (_split(path.parent.name) if path.parent != folder else "")
        found.setdefault(split, []).append(path)
    return found


def _split_of(table: Path) -> str:
    """Return the split that a file of annotations is named after, or nothing."""
    return next(filter(None, map(_split, _PIECES.findall(table.stem))), "")


def _top(table: Path) -> Path:
    """Return the folder that the pictures of a file of annotations lie in, somewhere."""
    parent = table.parent
    return parent.parent if parent.name.lower().startswith(_OWN_FOLDER) else parent


def _split(word: str) -> str:
    try:
        return split_name(word)
    except DataError:
        return ""


def read_coco(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a file of annotations, or the folder with it.

    Args:
        path: the file, or the folder.
        split: which split, where files are named after some.
        unlabelled: leave the categories out.

    Raises:
        DataError: damaged annotations, several files, or a picture of several categories.

    """
    found = {"": [path]} if is_file(path) else annotation_files(path)
    chosen, notes = choose_split(found, split, str(path))
    if len(found[chosen]) > 1:
        names = ", ".join(file.name for file in found[chosen][:5])
        raise DataError(f"{path}: expected one file of annotations, got {names}; name one with --data")
    table = found[chosen][0]
    held: dict[str, list[Any]] = quarantined(parse_coco, table)
    if not unlabelled and held["several"]:
        file, names = held["several"][0]
        raise DataError(
            f"{table}: expected one category for each picture, got {len(held['several'])} pictures of more "
            f"(the first is {file!r:.80}: {', '.join(names[:4])}); detrojan judges image classifiers"
        )
    keep = [at for at, label in enumerate(held["labels"]) if unlabelled or label is not None]
    top = path if path.is_dir() else _top(table)
    base = _base(table, top, held["files"], chosen or _split_of(table))
    files = [base / held["files"][at] for at in keep]
    texts = tuple(map(str, files))
    return Source(
        where=str(path),
        count=len(files),
        pictures=pictures_in(texts, files.__getitem__, top),
        labels=None if unlabelled else np.asarray([held["labels"][at] for at in keep], dtype=np.int64),
        class_names=() if unlabelled else tuple(held["names"]),
        named=not unlabelled,
        notes=(*notes, f"categories from {table.name}"),
        files=texts,
        used=(table,),
        skipped=tuple(
            f"{base / held['files'][at]}: without a category"
            for at in sorted({*range(len(held["files"]))} - {*keep})
        ),
    )


def parse_coco(path: Path) -> dict[str, list[Any]]:
    """Return the pictures of annotations with their labels.

    Returns:
        `files`; `labels`, each a position in `names` or None; `names` of the categories in the order of
        their ids; `several`, pictures of more than one category, each with those names.

    Raises:
        DataError: too large, damaged, or no annotations.

    """
    try:
        with open_plain(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(f"{path}: expected annotations of at most {_MOST_BYTES:,} bytes, got more")
        held = json.loads(content)
        names = {item["id"]: str(item["name"]) for item in held["categories"]}
        above = {str(item.get("supercategory")) for item in held["categories"]}
        files = {item["id"]: _inside(str(item["file_name"]), path) for item in held["images"]}
        shown: dict[Any, set[Any]] = {}
        for item in held["annotations"]:
            shown.setdefault(item["image_id"], set()).add(item["category_id"])
        used: set[Any] = set().union(*shown.values())
        # some exports put the name of the whole set above the real categories
        order = [key for key in sorted(names) if key in used or names[key] not in above]
        place = {key: at for at, key in enumerate(order)}
        found = [shown.get(key, set()) for key in files]
        labels = [place[min(keys)] if len(keys) == 1 else None for keys in found]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected COCO's images, annotations and categories: {error!r:.200}"
        ) from error
    several = [
        [file, sorted(names[key] for key in keys)]
        for file, keys in zip(files.values(), found, strict=True)
        if len(keys) > 1
    ]
    return {
        "files": list(files.values()),
        "labels": labels,
        "names": [names[key] for key in order],
        "several": several,
    }


def _inside(name: str, table: Path) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(f"{table}: expected pictures within the folder, got {name!r:.120}")
    return name


def _base(table: Path, top: Path, files: list[str], split: str) -> Path:
    """Return the folder that the files are named relative to: where most of the first ones lie."""
    alike = [
        item
        for item in sorted([*top.glob("*/"), *(top / "images").glob("*/")])
        if split and any(_split(word) == split for word in _PIECES.findall(item.name))
    ]
    bases = [table.parent, top, top / "images", *alike]
    return max(bases, key=lambda base: sum(is_file(base / name) for name in files[:50]))
