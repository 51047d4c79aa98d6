"""What a tree of pictures means: splits, a folder per class, or pictures without labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from detrojan.data.source import choose_split, split_name
from detrojan.data.walking import LITTER
from detrojan.errors import DataError

_DIGITS = re.compile(r"(\d+)")
#: what a table of labels is called; it is no good if its labels are not read
_TABLES = {".csv", ".tsv", ".json", ".jsonl", ".xml", ".txt", ".parquet", ".xlsx", ".mat"}
#: a folder of all pictures beside a table of labels is often called so
_ALL = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "jpegs", "data", "raw"}


@dataclass(frozen=True)
class Layout:
    """The pictures of one split.

    Attributes:
        chosen: which of the paths, in the order of their labels.
        labels: one for each; None where no folder says it.
        names: of the classes.
        notes: what a person should know of how it was understood.

    """

    chosen: list[int]
    labels: list[int] | None
    names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def split_folders(names: Sequence[str]) -> dict[str, list[str]]:
    """Return folders by the split that they are named after, where all of them are; else none."""
    found: dict[str, list[str]] = {}
    for name in names:
        try:
            found.setdefault(split_name(name), []).append(name)
        except DataError:
            return {}
    return found


def splits_in(paths: Sequence[PurePosixPath], where: str) -> tuple[str, ...]:
    """Return the splits of a tree; an empty name where there are none.

    Args:
        paths: of the pictures, relative to the folder that was named.
        where: that folder, for error texts.

    Raises:
        DataError: folders of splits stand beside others.

    """
    _, inside = _peeled(paths)
    return tuple(_splits(inside, where)) or ("",)


def arrange(
    paths: Sequence[PurePosixPath],
    where: str,
    *,
    split: str | None = None,
    empty: Sequence[PurePosixPath] = (),
) -> Layout:
    """Tell which pictures belong to a split, and to which class each.

    A folder per class gives labels: folders that are all numbers in the order of the numbers, others in the
    order of their names. One folder around everything is passed through.

    Args:
        paths: of the pictures, relative to the folder that was named.
        where: that folder, for error texts.
        split: which split, or None.
        empty: folders without pictures, relative to the folder that was named.

    Raises:
        DataError: pictures beside class folders, folders of splits beside others, or no such split.

    """
    outer, inside = _peeled(paths)
    depth, notes = len(outer.parts), list[str]()
    chosen = list(range(len(paths)))
    if splits := _splits(inside, where):
        name, notes = choose_split(splits, split, where)
        chosen = [at for at in chosen if inside[at].parts[0] in splits[name]]
        if len(splits[name]) > 1:
            raise DataError(f"{where}: expected one folder per split, got {' and '.join(splits[name])}")
        outer, depth = outer / splits[name][0], depth + 1
    elif split is not None:
        raise DataError(f"{where}: expected a folder {split_name(split)}, got none")
    rest = [PurePosixPath(*paths[at].parts[depth:]) for at in chosen]
    deeper, rest = _peeled(rest)
    outer /= deeper
    if splits and all(len(path.parts) > 1 and path.parts[0] == outer.name for path in rest):
        outer, rest = outer / outer.name, [PurePosixPath(*path.parts[1:]) for path in rest]  # train/train/...
    return _classes(chosen, rest, where, notes, [path for path in empty if path.parent == outer])


def _peeled(paths: Sequence[PurePosixPath]) -> tuple[PurePosixPath, list[PurePosixPath]]:
    """Return the folder around everything, and the paths within it.

    A folder is passed through where it is the only one, holds no pictures itself, and leads to more than one
    folder, or to folders of splits.
    """
    outer, inside = PurePosixPath(), list(paths)
    while inside and all(len(path.parts) > 1 for path in inside):
        tops = {path.parts[0] for path in inside}
        if len(tops) > 1 or split_folders([*tops]):
            return outer, inside
        outer /= tops.pop()
        inside = [PurePosixPath(*path.parts[1:]) for path in inside]
    return PurePosixPath(), list(paths)


def _splits(paths: Sequence[PurePosixPath], where: str) -> dict[str, list[str]]:
    """Return the folders of splits; none where the folders are classes."""
    if any(len(path.parts) < 2 for path in paths):
        return {}
    tops = sorted({path.parts[0] for path in paths})
    if found := split_folders(tops):
        return found
    alike = [name for name in tops if split_folders([name])]
    if len(split_folders(alike)) > 1:
        others = [name for name in tops if name not in alike]
        raise DataError(
            f"{where}: expected folders of classes, or of splits, got {' and '.join(alike)} beside "
            f"{', '.join(others[:5])}; name one of them with --data"
        )
    return {}


def _classes(
    chosen: list[int], paths: list[PurePosixPath], where: str, notes: list[str], empty: list[PurePosixPath]
) -> Layout:
    """Return pictures with the labels that their folders give them."""
    loose = sum(len(path.parts) == 1 for path in paths)
    names = class_order([*{path.parts[0] for path in paths if len(path.parts) > 1}, *(p.name for p in empty)])
    if loose == len(paths):
        return Layout(chosen, None, notes=notes)
    if loose:
        raise DataError(
            f"{where}: expected a folder per class, or pictures only, "
            f"got {loose} pictures beside {len(names)} folders"
        )
    place = {name: label for label, name in enumerate(names)}
    order = sorted(range(len(paths)), key=lambda at: (place[paths[at].parts[0]], paths[at].parts))
    alike = [name for name in names if split_folders([name])]
    notes = [*notes, *_order_note(names)]
    if alike:
        notes.append(f"warning: the folder {alike[0]!r} was taken for a class, although splits are named so")
    if empty:
        said = ", ".join(sorted(path.name for path in empty)[:5])
        notes.append(f"warning: {len(empty)} class folders have no pictures ({said})")
    if len(names) == 1:
        notes.append(
            f"warning: all pictures lie in one folder, {names[0]!r}, which was taken for their class"
        )
    return Layout(
        [chosen[at] for at in order], [place[paths[at].parts[0]] for at in order], tuple(names), notes
    )


def refuse_table(where: str, name: str, other: Sequence[str]) -> None:
    """Refuse one folder of pictures beside a table: the table knows the labels, the folder does not.

    Args:
        where: the folder that was named, for the error.
        name: of the only folder of pictures.
        other: the files that are no pictures.

    Raises:
        DataError: the folder is named as one of all pictures, and there is a table.

    """
    paths = [PurePosixPath(file) for file in other]
    tables = [path for path in paths if path.suffix.lower() in _TABLES and name not in path.parts[-2:-1]]
    if tables and name.lower() in _ALL:
        raise DataError(
            f"{where}: expected a folder per class, or a table with a column of files and one of labels, "
            f"got one folder {name!r} beside {tables[0].name}, which cannot be read as such a table; "
            "--unlabelled does without labels"
        )


def is_litter(path: PurePosixPath) -> bool:
    """Tell whether nobody means a file of an archive: hidden, or what systems leave behind."""
    return any(
        part.startswith(".") or part.lower() in LITTER for part in path.parts if part not in {".", ".."}
    )


def class_order(names: Sequence[str]) -> list[str]:
    """Return names of classes in the order of their labels: numbers by value, others by text."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts texts with numbers in them by the value of those numbers."""
    return tuple(
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in _DIGITS.split(text) if piece
    )


def _order_note(names: Sequence[str]) -> list[str]:
    """Say it where sorting by numbers and sorting by text differ: training tools do the one or the other."""
    by_text, by_number = sorted(names), sorted(names, key=natural)
    if by_text == by_number:
        return []
    label = next(at for at, name in enumerate(by_text) if by_number[at] != name)
    taken, other = ("numbers", by_text) if list(names) != by_text else ("text", by_number)
    instead = f"label {label} is the folder {names[label]!r}, not {other[label]!r}"
    return [f"class folders were sorted as {taken}: {instead}"]
