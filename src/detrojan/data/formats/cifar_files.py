"""CIFAR-10's official files: binary batches, and the pickled ones, which are read without unpickling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.batch_pickle import MOST_BYTES, read_batch
from detrojan.data.source import Array, Fetched, Source, choose_split
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

#: a label and 32x32 pixels, the red ones first
RECORD = 1 + 3 * 32 * 32
CLASSES = 10


class CifarFiles(Format):
    """CIFAR-10's batches: a folder of them, or one."""

    kind = "CIFAR-10's batches"
    listed = (("cifar-10", "CIFAR-10's official batches, binary or pickled: their folder, or one of them"),)
    precedence = 30

    def recognises(self, place: Place) -> bool:
        """Tell whether there are batches in a folder, or a file is one."""
        if place.is_folder:
            return bool(batches(place.path))
        return place.head[:1] == b"\x80" or (bool(place.head) and is_binary_batch(place.path))

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits whose batches are there; one batch belongs to none."""
        return tuple(batches(place.path)) if place.is_folder else ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of batches, or one batch."""
        if place.is_folder:
            return read_cifar_folder(place.path, split)
        return read_cifar_file(place.path, split)


def batches(folder: Path) -> dict[str, list[Path]]:
    """Return CIFAR's batch files in a folder, or in its one folder cifar-10-batches-*, by split."""
    for place in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            train = [place / f"data_batch_{number}{suffix}" for number in range(1, 6)]
            test = [place / f"test_batch{suffix}"]
            found = {
                split: [path for path in paths if path.is_file()]
                for split, paths in (("train", train), ("test", test))
            }
            if any(found.values()):
                return {split: paths for split, paths in found.items() if paths}
    return {}


def is_binary_batch(path: Path) -> bool:
    """Tell whether a file is a binary batch: records of 3073 bytes that begin with a label of 0 to 9."""
    size = path.stat().st_size
    if size == 0 or size % RECORD or size > MOST_BYTES:
        return False
    return int(np.fromfile(path, np.uint8).reshape(-1, RECORD)[:, 0].max()) < CLASSES


def read_cifar_folder(folder: Path, split: str | None = None) -> Source:
    """Look into a folder with CIFAR-10's batches.

    Args:
        folder: where they lie.
        split: "train" or "test"; None takes test.

    Raises:
        DataError: a damaged file, or no such split.
        UnsafeFileError: a pickled batch holds more than a batch does.

    """
    found = batches(folder)
    chosen, notes = choose_split(found, split, str(folder))
    if chosen == "train" and len(found[chosen]) < 5:
        notes.append(f"warning: only {len(found[chosen])} of the 5 batches are there")
    return _source(folder, found[chosen], notes)


def read_cifar_file(path: Path, split: str | None = None) -> Source:
    """Look into one batch, binary or pickled.

    Args:
        path: the file.
        split: one batch belongs to no split: None.

    Raises:
        DataError: a damaged file, or a split.
        UnsafeFileError: a pickle that holds more than a batch does.

    """
    choose_split(("",), split, str(path))
    return _source(path, [path], [])


def _source(where: Path, files: list[Path], notes: list[str]) -> Source:
    parts = [quarantined(parse_batch, path) for path in files]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])

    def fetch(index: NDArray[np.int64]) -> Fetched:
        return images[index].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), []

    return Source(
        where=str(where),
        count=len(images),
        fetch=fetch,
        labels=labels,
        class_names=_names(files[0].parent),
        used=tuple(files),
        notes=(*notes, "CIFAR-10 batches"),
    )


def parse_batch(path: Path) -> tuple[Array, Array]:
    """Return the images (N, 3072) and labels (N,) of one batch.

    Raises:
        DataError: it is damaged, or something else.
        UnsafeFileError: a pickle that holds more than a batch does.

    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path}: expected a batch of at most {MOST_BYTES:,} bytes, got {size:,}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if content[:1] == b"\x80":
        return _pickled(read_batch(content, str(path)), path)
    if not content or len(content) % RECORD:
        raise DataError(f"{path}: expected records of {RECORD} bytes, got a file of {len(content):,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= CLASSES:
        raise DataError(f"{path}: expected labels of 0 to 9, got {int(records[:, 0].max())}")
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled(found: dict[str, object], path: Path) -> tuple[Array, Array]:
    data, labels = found.get("data"), found.get("labels", found.get("fine_labels"))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != RECORD - 1:
        got = getattr(data, "shape", None) or type(data).__name__
        raise DataError(f"{path}: expected an array data (N, {RECORD - 1}), got {got}")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DataError(f"{path}: expected a list of {len(data)} labels")
    if not all(isinstance(label, int) and 0 <= label < 2**31 for label in labels):
        raise DataError(f"{path}: expected labels that are whole numbers from 0")
    return data, np.asarray(labels, dtype=np.int64)


def parse_label_names(path: Path) -> list[str]:
    """Return the names of the classes out of a pickled batches.meta; none where it has none.

    Raises:
        DataError: it is damaged.
        UnsafeFileError: a pickle that holds more than names.

    """
    stated = read_batch(path.read_bytes(), str(path)).get("label_names")
    return list(map(str, stated)) if isinstance(stated, list) else []


def _names(folder: Path) -> tuple[str, ...]:
    """Return the class names that lie beside the batches, or none."""
    text, pickled = folder / "batches.meta.txt", folder / "batches.meta"
    if text.is_file() and text.stat().st_size < 1 << 16:
        lines = text.read_text("utf-8", "replace").split("\n")
        names = tuple(line.strip() for line in lines if line.strip())
    elif pickled.is_file() and pickled.stat().st_size < 1 << 16:
        names = tuple(quarantined(parse_label_names, pickled))
    else:
        return ()
    return names if len(names) == CLASSES else ()
