"""CIFAR's official files: binary batches, and the pickled ones, which are read without unpickling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.batch_pickle import read_batch
from detrojan.data.source import Array, Fetched, Source, choose_split
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

#: the values of 32x32 pixels, the red ones first
PIXELS = 3 * 32 * 32
#: a label of CIFAR-10 and its pixels
RECORD = 1 + PIXELS
#: no batch is longer
MOST_BYTES = 1 << 28
_MOST_NAMES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one of the official data sets is packed.

    Attributes:
        name: of the data set.
        folder: that its archive holds.
        files: of each split.
        names: the file that states the names of the classes.
        classes: how many there are.
        labels: how many labels each record begins with; the last one counts.

    """

    name: str
    folder: str
    files: dict[str, tuple[str, ...]]
    names: str
    classes: int = 10
    labels: int = 1

    @property
    def binary(self) -> bool:
        """Whether its files hold records, and no pickle."""
        return self.folder.endswith(("bin", "binary"))

    def present(self, names: Collection[str]) -> dict[str, list[str]]:
        """Return those of the files that are there, by split; none where nothing tells whose they are."""
        found = {split: [one for one in files if one in names] for split, files in self.files.items()}
        plain = self.classes != 10 and self.names not in names
        return {} if plain else {split: files for split, files in found.items() if files}


def _batches(ending: str) -> dict[str, tuple[str, ...]]:
    train = tuple(f"data_batch_{number}{ending}" for number in range(1, 6))
    return {"train": train, "test": (f"test_batch{ending}",)}


#: CIFAR-10 and CIFAR-100, each binary and pickled
KINDS = (
    Kind(name="CIFAR-10", folder="cifar-10-batches-bin", files=_batches(".bin"), names="batches.meta.txt"),
    Kind(name="CIFAR-10", folder="cifar-10-batches-py", files=_batches(""), names="batches.meta"),
    Kind(
        name="CIFAR-100",
        folder="cifar-100-binary",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        names="fine_label_names.txt",
        classes=100,
        labels=2,
    ),
    Kind(
        name="CIFAR-100",
        folder="cifar-100-python",
        files={"train": ("train",), "test": ("test",)},
        names="meta",
        classes=100,
    ),
)


def kind_of(folder: str) -> Kind:
    """Return the data set whose archive holds such a folder."""
    return next(kind for kind in KINDS if kind.folder == folder)


class CifarFiles(Format):
    """CIFAR's batches: a folder of them, or a binary one."""

    kind = "CIFAR's batches"
    listed = (
        ("cifar", "CIFAR-10's and CIFAR-100's official files, binary or pickled: their folder, or a batch"),
    )
    precedence = 30

    def recognises(self, place: Place) -> bool:
        """Tell whether there are batches in a folder, or a file is a binary one."""
        if place.is_folder:
            return _found(place.path) is not None
        return bool(place.head) and is_binary_batch(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits whose batches are there; one batch belongs to none."""
        found = _found(place.path) if place.is_folder else None
        return ("",) if found is None else tuple(found[2])

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of batches, or one batch."""
        found = _found(place.path) if place.is_folder else None
        if found is not None:
            return _read_folder(*found, split, str(place.path))
        choose_split(("",), split, str(place.path))
        kind = KINDS[0]
        return batches_source(
            kind, [quarantined(parse_batch, place.path, kind.folder)], str(place.path), (),
            names=class_names(kind, place.path.parent / kind.names), used=(place.path,),
        )  # fmt: skip


def _found(folder: Path) -> tuple[Kind, Path, dict[str, list[str]]] | None:
    """Return which data set lies in a folder, or in its one folder, and its files by split."""
    for kind in KINDS:
        for place in (folder, folder / kind.folder):
            files = {name for split in kind.files.values() for name in split} | {kind.names}
            found = kind.present([name for name in files if (place / name).is_file()])
            if found:
                return kind, place, found
    return None


def is_binary_batch(path: Path) -> bool:
    """Tell whether a file is a binary batch: records of 3073 bytes that begin with a label of 0 to 9."""
    size = path.stat().st_size
    if size == 0 or size % RECORD or size > MOST_BYTES:
        return False
    return int(np.fromfile(path, np.uint8).reshape(-1, RECORD)[:, 0].max()) < KINDS[0].classes


def _read_folder(
    kind: Kind, folder: Path, files: dict[str, list[str]], split: str | None, where: str
) -> Source:
    """Look into the batches of a split."""
    chosen, notes = choose_split(files, split, where)
    usual = len(kind.files[chosen])
    if len(files[chosen]) < usual:
        notes.append(f"warning: only {len(files[chosen])} of the {usual} batches are there")
    paths = tuple(folder / name for name in files[chosen])
    parts = [quarantined(parse_batch, path, kind.folder) for path in paths]
    names = class_names(kind, folder / kind.names)
    return batches_source(kind, parts, where, tuple(notes), names=names, used=paths)


def batches_source(
    kind: Kind,
    parts: list[tuple[Array, Array]],
    where: str,
    notes: tuple[str, ...],
    *,
    names: tuple[str, ...],
    used: tuple[Path, ...],
) -> Source:
    """Return the samples of some batches, each with images (N, 3072) and labels (N,)."""
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])

    def fetch(index: NDArray[np.int64]) -> Fetched:
        return images[index].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), []

    return Source(
        where=where,
        count=len(images),
        fetch=fetch,
        labels=labels,
        class_names=names,
        used=used,
        notes=(*notes, f"{kind.name} batches"),
    )


def parse_batch(path: Path, folder: str) -> tuple[Array, Array]:
    """Return the images (N, 3072) and labels (N,) of one batch.

    Args:
        path: the file.
        folder: what the folder of its kind is called.

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
    return batch_of(content, kind_of(folder), str(path))


def batch_of(content: bytes, kind: Kind, where: str) -> tuple[Array, Array]:
    """Return the images (N, 3072) and labels (N,) that the bytes of a batch hold.

    Raises:
        DataError: it is damaged, or something else.
        UnsafeFileError: a pickle that holds more than a batch does.

    """
    if not kind.binary:
        return _pickled(read_batch(content, where), where)
    record = kind.labels + PIXELS
    if not content or len(content) % record:
        raise DataError(f"{where}: expected records of {record} bytes, got a file of {len(content):,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, kind.labels - 1]
    if labels.max() >= kind.classes:
        raise DataError(f"{where}: expected labels of 0 to {kind.classes - 1}, got {int(labels.max())}")
    return records[:, kind.labels :], labels.astype(np.int64)


def _pickled(found: dict[str, object], where: str) -> tuple[Array, Array]:
    data, labels = found.get("data"), found.get("labels", found.get("fine_labels"))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        got = getattr(data, "shape", None) or type(data).__name__
        raise DataError(f"{where}: expected an array data (N, {PIXELS}), got {got}")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DataError(f"{where}: expected a list of {len(data)} labels")
    if not all(isinstance(label, int) and 0 <= label < 2**31 for label in labels):
        raise DataError(f"{where}: expected labels that are whole numbers from 0")
    return data, np.asarray(labels, dtype=np.int64)


def class_names(kind: Kind, path: Path) -> tuple[str, ...]:
    """Return the names of the classes that a file beside the batches states; none where it is not there."""
    if not path.is_file() or path.stat().st_size >= _MOST_NAMES:
        return ()
    if kind.binary:
        return names_of(path.read_bytes(), kind, str(path))
    return tuple(quarantined(parse_names, path, kind.folder))


def parse_names(path: Path, folder: str) -> tuple[str, ...]:
    """Return the names of the classes that a file beside the batches states.

    Args:
        path: the file.
        folder: what the folder of its kind is called.

    Raises:
        DataError: it is damaged.
        UnsafeFileError: a pickle that holds more than names.

    """
    return names_of(path.read_bytes(), kind_of(folder), str(path))


def names_of(content: bytes, kind: Kind, where: str) -> tuple[str, ...]:
    """Return the names of the classes that the bytes of such a file state; none where they are too few."""
    if kind.binary:
        names = [line.strip() for line in content.decode("utf-8", "replace").split("\n") if line.strip()]
    else:
        stated = read_batch(content, where)
        held = stated.get("fine_label_names", stated.get("label_names"))
        names = list(map(str, held)) if isinstance(held, list) else []
    return tuple(names) if len(names) == kind.classes else ()
