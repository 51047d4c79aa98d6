"""Images from picture files: a folder per class, a flat folder, or a list of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from detrojan.data.decoding import CONVERT, OTHER_SUFFIXES, SUFFIXES
from detrojan.data.formats.base import Format, Place
from detrojan.data.layout import arrange, refuse_table, splits_in
from detrojan.data.source import Source, choose_split, pictures_in
from detrojan.data.walking import Walk, check_plain, first_bytes, is_file, is_folder, walk
from detrojan.errors import DataError

_HEADS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"P5", b"P6", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
_AVIF = (b"ftypavif", b"ftypavis", b"ftypmif1")
#: a folder whose files have no such ending is looked into by this many of their first bytes
_NAMELESS = 20


class ImageFolder(Format):
    """Pictures: a folder of them, or one. Any folder is taken for one that no other format knows."""

    kind = "a folder of pictures, a picture"
    listed = (
        ("folder", "pictures, a folder per class, or without labels"),
        ("picture", "JPEG, PNG, BMP, PPM, WebP, GIF, TIFF or AVIF"),
    )
    precedence = 90

    def recognises(self, place: Place) -> bool:
        """Tell whether it is a folder, or a picture by its first bytes."""
        head = place.head
        return place.is_folder or (_is_picture(head) and head[8:12] not in {b"WAVE", b"AVI "})

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have a folder each."""
        if not place.is_folder:
            return ("",)
        return splits_in(_Tree.of(place.path).relative, str(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of pictures, or take one picture, which has no label."""
        if place.is_folder:
            return read_folder(place.path, split, unlabelled=unlabelled)
        choose_split(("",), split, str(place.path))
        return read_pictures([place.path])


@dataclass(frozen=True)
class _Tree:
    """The pictures of a folder, and what else lies there."""

    pictures: list[Path]
    relative: list[PurePosixPath]
    other: list[Path]
    found: Walk

    @classmethod
    def of(cls, folder: Path) -> _Tree:
        found = walk(folder)
        named = {path for path in found.files if path.suffix.lower() in SUFFIXES}
        named = named or {path for path in found.files if not path.suffix}
        nameless = not any(path.suffix for path in named)
        if nameless and not all(_is_picture(first_bytes(path, 12)) for path in sorted(named)[:_NAMELESS]):
            named = set()
        pictures = [path for path in found.files if path in named]
        other = [path for path in found.files if path not in named]
        relative = [PurePosixPath(path.relative_to(folder).as_posix()) for path in pictures]
        return cls(pictures, relative, other, found)


def _is_picture(head: bytes) -> bool:
    return head.startswith(_HEADS) or head[4:12] in _AVIF


def read_folder(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a folder of pictures.

    A folder per class gives labels, in the order of `layout.class_order`; pictures that lie in the folder
    itself have none. Folders that are all called train, test or val hold splits.

    Args:
        path: the folder.
        split: which split, where there are such folders.
        unlabelled: leave the labels out.

    Raises:
        DataError: no pictures, pictures beside class folders, or a single folder of pictures beside a table
            of labels that cannot be read.

    """
    tree = _Tree.of(path)
    if not tree.pictures:
        raise _no_pictures(path, tree.found)
    held = {parent for file in tree.relative for parent in file.parents}
    empty = [
        PurePosixPath(folder.relative_to(path).as_posix())
        for folder in tree.found.folders
        if PurePosixPath(folder.relative_to(path).as_posix()) not in held
    ]
    layout = arrange(tree.relative, str(path), split=split, empty=empty)
    if len(layout.names) == 1 and not unlabelled:
        refuse_table(str(path), layout.names[0], list(map(str, tree.other)))
    return _source(
        path,
        [tree.pictures[at] for at in layout.chosen],
        None if unlabelled else layout.labels,
        layout.names,
        top=path,
        notes=[*layout.notes, *tree.found.notes(), *_left_out(tree.other, tree.found.hidden)],
        skipped=_skipped(tree.other, tree.found.hidden, tree.found.outward),
    )


def read_pictures(paths: Sequence[Path]) -> Source:
    """Take a list of picture files, without labels; a folder stands for the pictures in it.

    Raises:
        DataError: the list is empty, a file or folder is not there, or a folder holds no pictures.

    """
    if not paths:
        raise DataError("expected at least one picture file, got none")
    files, notes, skipped = list[Path](), list[str](), list[str]()
    for path in paths:
        if is_folder(path):
            tree = _Tree.of(path)
            if not tree.pictures:
                raise _no_pictures(path, tree.found)
            files += tree.pictures
            notes += [*tree.found.notes(), *_left_out(tree.other, tree.found.hidden)]
            skipped += _skipped(tree.other, tree.found.hidden, tree.found.outward)
        elif is_file(path):
            files.append(path)
        else:
            check_plain(path)
            raise DataError(f"there is no file or folder {path}")
    where = paths[0] if len(paths) == 1 else paths[0].parent
    return _source(where, files, notes=notes, skipped=skipped)


def _source(
    path: Path,
    files: list[Path],
    labels: list[int] | None = None,
    names: tuple[str, ...] = (),
    *,
    top: Path | None = None,
    notes: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> Source:
    texts = tuple(map(str, files))
    return Source(
        where=str(path),
        count=len(files),
        pictures=pictures_in(texts, files.__getitem__, top),
        labels=None if labels is None else np.asarray(labels, dtype=np.int64),
        class_names=names,
        named=labels is not None,
        notes=tuple(notes),
        skipped=tuple(skipped),
        files=texts,
    )


def _no_pictures(path: Path, found: Walk) -> DataError:
    expected = f"{path}: expected pictures ({', '.join(sorted(SUFFIXES))})"
    if found.outward:
        return DataError(
            f"{expected}, got {len(found.outward)} links that lead out of the folder; "
            "copy in what they lead to: cp -rL"
        )
    got = f"{len(found.files)} other files" if found.files else "none"
    unread = {file.suffix.lower() for file in found.files} & OTHER_SUFFIXES
    if unread:
        got += f", some of them {', '.join(sorted(unread))}; {CONVERT}"
    return DataError(f"{expected}, got {got}")


def _left_out(other: list[Path], hidden: list[Path]) -> list[str]:
    notes = [f"{len(other)} files that are not pictures were left out"] if other else []
    return notes + ([f"{len(hidden)} hidden files were left out"] if hidden else [])


def _skipped(other: list[Path], hidden: list[Path], outward: list[Path]) -> list[str]:
    return [
        *(f"{path}: not a picture" for path in other),
        *(f"{path}: hidden" for path in hidden),
        *(f"{path}: a link that leads out of the folder" for path in outward),
    ]
