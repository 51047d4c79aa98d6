"""Reads data of any supported kind: the kind is told by what the file is, not by its name."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import signs
from detrojan.data.formats.cifar_files import batches, is_binary_batch, read_cifar_file, read_cifar_folder
from detrojan.data.formats.gtsrb_folder import read_gtsrb, tables
from detrojan.data.formats.hdf5_file import read_hdf5
from detrojan.data.formats.idx_files import image_files, is_idx, read_idx_file, read_idx_folder
from detrojan.data.formats.image_folder import picture_files, read_folder, read_pictures
from detrojan.data.formats.npz_file import read_npz
from detrojan.data.formats.recordings import read_wav_folder, wav_files
from detrojan.data.geometry import Size, crop_boxes, resample, stacked
from detrojan.data.labels import clean_labels
from detrojan.data.pixels import Range, choose_scale
from detrojan.data.source import Array, Pixels, Source, split_name
from detrojan.errors import DataError, OptionError

logger = logging.getLogger(__name__)

#: more samples than any file has; the order of that many positions would fill the memory
_MOST_SAMPLES = 100_000_000

DataPath = str | Path | Sequence[str | Path]

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"P5", b"P6", b"RIFF")
_KINDS = (
    "an .npz file, an HDF5 file, a folder of pictures or of wav files, a picture, CIFAR-10's batches, "
    "MNIST's idx files, GTSRB's folder, or the word signs (signs:train, signs:test)"
)


def read_data(
    path: DataPath,
    *,
    split: str | None = None,
    data_range: Range | None = None,
    resize: Size | None = None,
    crop: bool = False,
    unlabelled: bool = False,
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Dataset:
    """Read images, with labels where there are any.

    Args:
        path: an `.npz` or HDF5 file, a folder of pictures (one folder per class, or flat), a picture,
            a list of pictures, CIFAR-10's binary or pickled batches, MNIST's idx files, GTSRB's folder
            with its tables, a folder of wav files (read as spectrograms), or the word `signs`,
            `signs:train` or `signs:test`.
        split: "train", "test" or "val" where the data have splits; None takes the only one, or test.
        data_range: (low, high), the stored values of black and white; None: uint8 is 0..255, floats
            must lie within [0, 1].
        resize: (H, W) in pixels to bring all images to, bilinear.
        crop: cut each image to its region of interest, the array `roi` of the file.
        unlabelled: leave the labels out, also where the file has some.
        limit: at most this many images, drawn at random without repeats; only these are decoded.
        generator: randomness for `limit`; a fixed seed where None.

    Returns:
        Images (N, C, H, W) float32 in [0, 1]; `notes` says how they were read, and the notes that
        begin with "warning:" are for people to see.

    Raises:
        UnsafeFileError: reading the file would run code from it, or open other files.
        DataError: the data cannot be read, are empty or damaged.
        RangeError: pixel values outside the range.
        LabelError: labels that are not whole numbers from 0, or not one per image.
        OptionError: a limit, size or range that makes no sense.

    """
    if limit is not None and limit < 1:
        raise OptionError(f"expected a limit of at least 1 image, got {limit}")
    text = path if isinstance(path, str) else ""
    if text == "signs" or text.startswith("signs:"):
        data = _signs(text, split)
        data = _drawn(data, torch.from_numpy(_choose(len(data), limit, generator)))
        return _resized_signs(data.with_labels(None) if unlabelled else data, resize, crop=crop)
    source, digest = _open(path, split, unlabelled=unlabelled)
    if source.count <= 0:
        raise DataError(f"{source.where}: expected at least one image, got none")
    if source.count > _MOST_SAMPLES:
        raise DataError(f"{source.where}: expected at most {_MOST_SAMPLES:,} images, got {source.count:,}")
    labels, names, notes = None, source.class_names, list(source.notes)
    if source.labels is not None:
        labels, names, more = clean_labels(source.labels, source.count, names, source.where)
        notes += more
    elif not unlabelled:
        notes.append("no labels")
    index = _choose(source.count, limit, generator)
    if len(index) < source.count:
        notes.append(f"{len(index)} of {source.count} images, drawn at random")
    images, more = _images(source, index, data_range, resize, crop=crop)
    for note in more:
        if note.startswith("warning: "):
            logger.warning("%s: %s", source.where, note.removeprefix("warning: "))
    drawn = len(index) < source.count
    return Dataset(
        images=images,
        labels=None if labels is None else torch.from_numpy(labels[index]),
        class_names=() if labels is None else names,
        source=source.where,
        sha256=digest,
        notes=(*notes, *more),
        extra={name: _tensor(values[index]) for name, values in source.extra.items()},
        files=source.files and tuple(source.files[position] for position in index.tolist()),
        positions=torch.from_numpy(index) if drawn else None,
        total=source.count if drawn else 0,
    )


def _open(path: DataPath, split: str | None, *, unlabelled: bool) -> tuple[Source, str]:
    """Pick the reader by what the path is."""
    if not isinstance(path, str | Path):
        paths = [Path(item) for item in path]
        return read_pictures(paths), data_digest(path)
    place = Path(path)
    if place.is_dir():
        return _read_folder(place, split, unlabelled=unlabelled), _digest(place)
    if not place.is_file():
        raise DataError(f"there is no file or folder {path}; expected {_KINDS}")
    try:
        with place.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return _read_file(place, start, split, unlabelled=unlabelled), _digest(place)


def _read_file(place: Path, start: bytes, split: str | None, *, unlabelled: bool) -> Source:
    """Pick the reader of a file by what it begins with."""
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return read_npz(place, split, unlabelled=unlabelled)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return read_hdf5(place, split, unlabelled=unlabelled)
    if start.startswith(_PICTURES) and start[8:12] != b"WAVE":
        return read_pictures([place])
    if start[:1] == b"\x80" or is_binary_batch(place):
        return read_cifar_file(place)
    if is_idx(place, start):
        return read_idx_file(place, unlabelled=unlabelled)
    raise DataError(f"{place}: expected {_KINDS}, got {_strange(start)}")


def _strange(start: bytes) -> str:
    """Say what a file is that no reader takes."""
    if start[8:12] == b"WAVE":
        return "a single recording; name the folder it lies in"
    if start.startswith(b"\x1f\x8b"):
        return "a packed file; unpack it first"
    return "something else" if start else "an empty file"


def _read_folder(place: Path, split: str | None, *, unlabelled: bool) -> Source:
    """Pick the reader of a folder by what lies in it."""
    if batches(place):
        return read_cifar_folder(place, split)
    if image_files(place):
        return read_idx_folder(place, split, unlabelled=unlabelled)
    if tables(place):
        return read_gtsrb(place, split, unlabelled=unlabelled)
    if wav_files(place):
        if split is not None:
            raise DataError(f"{place}: expected no split of a folder of wav files, got {split}")
        return read_wav_folder(place, unlabelled=unlabelled)
    return read_folder(place, split, unlabelled=unlabelled)


def data_digest(path: DataPath) -> str:
    """Return the SHA-256 of what a path names: a file, or a folder's names and contents, or a word.

    Raises:
        DataError: there is no such file, or it cannot be read.

    """
    if not isinstance(path, str | Path):
        paths = [Path(item) for item in path]
        files, _ = picture_files(paths)
        return _digest(paths[0].parent, files)
    if isinstance(path, str) and path.partition(":")[0] == "signs":
        return hashlib.sha256(b"signs").hexdigest()
    if not Path(path).exists():
        raise DataError(f"there is no file or folder {path}; expected {_KINDS}")
    return _digest(Path(path))


def _choose(count: int, limit: int | None, generator: torch.Generator | None) -> NDArray[np.int64]:
    """Return the positions to read: all in their order, or `limit` of them at random."""
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    chosen: NDArray[np.int64] = torch.randperm(count, generator=generator)[:limit].numpy()
    return chosen


def _drawn(data: Dataset, index: torch.Tensor) -> Dataset:
    """Return the samples at `index` (n,), which know their positions; all of them where it names all."""
    if len(index) == len(data):
        return data
    return replace(data.select(index), positions=index, total=len(data))


def _images(
    source: Source, index: NDArray[np.int64], data_range: Range | None, resize: Size | None, *, crop: bool
) -> tuple[torch.Tensor, list[str]]:
    """Decode, cut, resize and scale the images at `index`."""
    if crop and "roi" not in source.extra:
        raise DataError(f"{source.where}: expected an array roi to crop by, got none")
    pixels, notes = source.fetch(index)
    # the range is judged before resizing, which would hide single pixels that are outside
    scale = choose_scale(pixels, data_range, source.where, bytes_in_floats=source.bytes_in_floats)
    notes += scale.notes
    if crop:
        frames: list[Size] = [(image.shape[0], image.shape[1]) for image in pixels]
        boxes = crop_boxes(source.extra["roi"][index], frames, source.where)
        images = resample(pixels, resize or frames[0], boxes)
        notes.append("cropped to the region of interest, bilinear")
    elif resize is not None:
        images = resample(pixels, resize)
    else:
        images = stacked(pixels, source.where)
    if resize is not None:
        notes.append(_resize_note(pixels, resize))
    unit = scale.apply(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(np.ascontiguousarray(unit)), notes


def _resize_note(pixels: Pixels, size: Size) -> str:
    sizes = sorted({image.shape[:2] for image in pixels})
    before = f"{sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    return f"resized from {before} to {size[0]}x{size[1]}, bilinear"


def _signs(word: str, split: str | None) -> Dataset:
    stated = word.partition(":")[2]
    if stated and split is not None and split_name(stated) != split_name(split):
        raise OptionError(f"expected one split, got {word} and {split}")
    return signs(split_name(stated or split or "test"))


def _resized_signs(data: Dataset, resize: Size | None, *, crop: bool) -> Dataset:
    if crop:
        raise DataError("signs: expected an array roi to crop by, got none")
    if resize is None or resize == tuple(data.images.shape[2:]):
        return data
    pixels = data.images.permute(0, 2, 3, 1).numpy()
    images = np.clip(resample(pixels, resize).transpose(0, 3, 1, 2), 0, 1)
    notes = (*data.notes, _resize_note(pixels, resize))
    return replace(data, images=torch.from_numpy(np.ascontiguousarray(images)), notes=notes)


def _tensor(values: Array) -> torch.Tensor:
    """Return a per-sample array as a tensor; torch knows few unsigned types and one byte order."""
    known = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64}
    return torch.from_numpy(np.ascontiguousarray(values.astype(known[values.dtype.kind])))


def _digest(path: Path, files: Sequence[Path] | None = None) -> str:
    """Return the SHA-256 of a file, or of the names and contents of files, in sorted order."""
    digest = hashlib.sha256()
    if files is None and path.is_file():
        _feed(digest, path)
        return digest.hexdigest()
    if files is None:
        files = sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        name = file.relative_to(path) if file.is_relative_to(path) else file
        digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
