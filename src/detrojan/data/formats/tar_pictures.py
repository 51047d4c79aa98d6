"""Pictures in tar files, such as WebDataset's shards, read where they lie: nothing is unpacked."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from detrojan.data.decoding import SUFFIXES
from detrojan.data.formats.base import Format, Place
from detrojan.data.layout import arrange, is_litter, splits_in
from detrojan.data.packed import DAMAGE, Unpacked, is_packed
from detrojan.data.source import MOST_ENCODED, Array, Encoded, Source, choose_split, split_name
from detrojan.data.walking import is_file
from detrojan.errors import DataError, LabelError
from detrojan.quarantine import quarantined

_MOST_MEMBERS, _MOST_BESIDE = 5_000_000, 2**16
#: files beside a picture that state its label, and the names that it goes by in JSON
_BESIDE = (".cls", ".json")
_LABELS = ("label", "cls", "class", "class_name", "target", "category")
_MAGIC = slice(257, 262)
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

#: a picture: its shard, its name in it, where its bytes begin and how many there are
_Member = tuple[Path, str, int, int]


class TarPictures(Format):
    """A tar file of pictures, packed or not, or a folder of such shards."""

    kind = "a tar of pictures (WebDataset)"
    listed = (
        (".tar", "pictures, laid out as in a folder, or WebDataset's shards with N.jpg and N.cls"),
        (".tar.gz", "the same packed (also .tgz, .tar.bz2, .tar.xz): slower, unpacked in passing"),
    )
    precedence = 46

    def recognises(self, place: Place) -> bool:
        """Tell whether a file is a tar, or a folder holds some."""
        return bool(shards(place.path)) if place.is_folder else is_tar(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that shards are named after, or that have a folder each."""
        found = shards(place.path) if place.is_folder else {"": [place.path]}
        if set(found) != {""}:
            return tuple(found)
        members, labels = _members(found[""])
        return (
            ("",)
            if labels
            else splits_in([PurePosixPath(name) for _, name, _, _ in members], str(place.path))
        )

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the shards of a split."""
        return read_tar(place.path, split, unlabelled=unlabelled)


def is_tar(path: Path) -> bool:
    """Tell whether a file is a tar, packed or not."""
    try:
        if not is_file(path):
            return False
        with Unpacked(path) as stream:
            return stream.read(512)[_MAGIC] == b"ustar"
    except (DataError, *DAMAGE):
        return False


def shards(folder: Path) -> dict[str, list[Path]]:
    """Return the tar files in a folder, by split where all are named after one, as train-000.tar is."""
    named_so = (path for path in sorted(folder.iterdir()) if path.name.lower().endswith(_ENDINGS))
    found = [path for path in named_so if not path.name.startswith(".") and is_tar(path)]
    named: dict[str, list[Path]] = {}
    for path in found:
        try:
            named.setdefault(split_name(re.split(r"[-_.]", path.stem)[0]), []).append(path)
        except DataError:
            return {"": found}
    return named


def read_tar(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a tar of pictures, or a folder of shards.

    Where files such as 17.cls or 17.json lie beside 17.jpg, they state its label; else the layout is that of
    a folder of pictures.

    Args:
        path: the file, or the folder.
        split: which split, where shards or folders are named after some.
        unlabelled: leave the labels out.

    Raises:
        DataError: damaged, no pictures, or a layout that tells no classes.
        LabelError: some pictures have no label.

    """
    found = shards(path) if path.is_dir() else {"": [path]}
    notes: list[str] = []
    if set(found) != {""}:
        chosen, notes = choose_split(found, split, str(path))
        files, split = found[chosen], None
    else:
        files = found[""]
    members, beside = _members(files)
    if not members:
        unpack = "; unpack it, if it holds data of another kind" if any(map(is_packed, files)) else ""
        raise DataError(f"{path}: expected pictures, got none{unpack}")
    class_names, named = tuple[str, ...](), False
    if beside:
        labels = None if unlabelled else _stated(members, beside, path)
    else:
        tree = [PurePosixPath(name) for _, name, _, _ in members]
        layout = arrange(tree, str(path), split=split)
        members, notes = [members[at] for at in layout.chosen], [*notes, *layout.notes]
        labels = None if unlabelled or layout.labels is None else np.asarray(layout.labels, dtype=np.int64)
        class_names, named = layout.names, labels is not None
    return Source(
        where=str(path),
        count=len(members),
        pictures=lambda index: _encoded(members, index),
        labels=labels,
        class_names=class_names,
        named=named,
        notes=tuple(notes),
        used=tuple(files),
    )


def parse_tar(path: Path) -> list[tuple[str, int, int, str | None]]:
    """Return the pictures of a tar, and the files that state labels.

    Returns:
        Of each its name, where its bytes begin and how many there are; of a file that states a label also
        what it states.

    Raises:
        DataError: it is damaged, or holds millions of files.

    """
    found = list[tuple[str, int, int, str | None]]()
    try:
        # what is packed is read once, from its beginning to its end
        mode: Literal["r|", "r:"] = "r|" if is_packed(path) else "r:"
        with Unpacked(path) as stream, tarfile.open(fileobj=stream, mode=mode) as archive:
            for item in archive:
                name = PurePosixPath(item.name)
                if not item.isreg() or is_litter(name):
                    continue
                if name.suffix.lower() in SUFFIXES and item.size <= MOST_ENCODED:
                    found.append((item.name, item.offset_data, item.size, None))
                elif name.suffix.lower() in _BESIDE and item.size <= _MOST_BESIDE:
                    content = archive.extractfile(item)
                    text = "" if content is None else content.read().decode("utf-8", "replace")
                    found.append((item.name, 0, 0, _label(text, name.suffix.lower())))
                if len(found) > _MOST_MEMBERS:
                    raise DataError(f"{path}: expected at most {_MOST_MEMBERS:,} files, got more")
                archive.members.clear()  # type: ignore[attr-defined]  # a tar remembers all it has seen
    except (tarfile.TarError, OverflowError, *DAMAGE) as error:
        raise DataError(f"{path}: the tar file is truncated or damaged: {error}") from error
    return found


def _label(text: str, suffix: str) -> str | None:
    if suffix == ".cls":
        return text.strip() or None
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(held, dict):
        held = next((held[name] for name in _LABELS if name in held), None)
    return str(held) if isinstance(held, int | str) and not isinstance(held, bool) else None


def _members(files: list[Path]) -> tuple[list[_Member], dict[tuple[Path, str], str]]:
    """Return the pictures of shards, and the labels that files beside them state."""
    members, beside = list[_Member](), dict[tuple[Path, str], str]()
    for file in files:
        for name, offset, size, label in _parsed(file):
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                members.append((file, name, offset, size))
            elif label is not None:
                beside[file, _key(name)] = label
    return members, beside


def _parsed(file: Path) -> Any:
    return quarantined(parse_tar, file)


def _key(name: str) -> str:
    """Return what the files of one sample share: the name up to the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.', 1)[0]}"


def _stated(members: list[_Member], beside: dict[tuple[Path, str], str], path: Path) -> Array:
    texts = [beside.get((file, _key(name))) for file, name, _, _ in members]
    missing = sum(text is None for text in texts)
    if missing:
        raise LabelError(f"{path}: expected a label for each picture, got {missing} of {len(texts)} without")
    stated = [text for text in texts if text is not None]
    if all(text.isdecimal() for text in stated):
        return np.asarray([int(text) for text in stated], dtype=np.int64)
    return np.asarray(stated)


def _encoded(members: list[_Member], index: NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
    """Yield pictures in the order in which they lie, so that packed files are unpacked once only."""
    chosen = [(*members[position], place) for place, position in enumerate(index.tolist())]
    wanted = sorted(chosen, key=lambda item: (item[0], item[2]))
    for file, group in groupby(wanted, key=lambda item: item[0]):
        with Unpacked(file) as stream:
            for _, name, offset, size, place in group:
                yield place, Encoded(f"{file}: {name}", _content(stream, offset, size))


def _content(stream: IO[bytes], offset: int, size: int) -> bytes:
    """Return the bytes of one picture; fewer where the file has lost some, which shows when it is decoded."""
    try:
        stream.seek(offset)
        return stream.read(size)
    except DAMAGE:
        return b""
