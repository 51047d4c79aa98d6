"""Spoken recordings as images: folders of wav files, and arrays of samples with offsets."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.spectrogram import spectrogram
from detrojan.data.source import Array, Fetched, Source
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

#: a recording longer than this is not looked at, in samples
MOST_SAMPLES = 1 << 26
_NOTE = "recordings as log-mel spectrograms, 64 bands x 64 frames of 1 s at 8 kHz"


class Recordings(Format):
    """A folder of recordings, which become spectrograms."""

    kind = "a folder of wav files"
    listed = (
        ("wav folder", "spoken recordings, a folder per class, or 7_jackson_32.wav; read as spectrograms"),
    )
    precedence = 60

    def recognises(self, place: Place) -> bool:
        """Tell whether there are wav files in a folder; one by itself is refused with the reason."""
        return bool(wav_files(place.path)) if place.is_folder else place.head[8:12] == b"WAVE"

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of recordings.

        Raises:
            DataError: a single recording, or a split, which such a folder does not have.

        """
        if not place.is_folder:
            raise DataError(
                f"{place.path}: expected {self.kind}, got a single recording; name the folder it lies in"
            )
        if split is not None:
            raise DataError(f"{place.path}: expected no split of a folder of wav files, got {split}")
        return read_wav_folder(place.path, unlabelled=unlabelled)


def wav_files(folder: Path) -> list[Path]:
    """Return the wav files in a folder and in the folders in it, sorted."""
    found = [*folder.glob("*.[wW][aA][vV]"), *folder.glob("*/*.[wW][aA][vV]")]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def read_wav_folder(folder: Path, *, unlabelled: bool = False) -> Source:
    """Look into a folder of recordings.

    A folder per class gives labels in the sorted order of the folders' names. In a flat folder the
    name says the class, as in 7_jackson_32.wav: class, speaker, number.

    Args:
        folder: where they lie.
        unlabelled: leave the labels out.

    Raises:
        DataError: names that say no class, or a file that is no PCM wav.

    """
    files = wav_files(folder)
    flat = [path for path in files if path.parent == folder]
    if flat and len(flat) < len(files):
        raise DataError(
            f"{folder}: expected a folder per class, or recordings only, "
            f"got {len(flat)} recordings beside folders of them"
        )
    words = [path.stem.split("_") if flat else [path.parent.name] for path in files]
    if flat and not unlabelled and min(map(len, words)) < 2:
        raise DataError(
            f"{folder}: expected names such as 7_jackson_32.wav, class first, "
            f"got {min(files, key=lambda path: path.name.count('_')).name!r}; or read it with --unlabelled"
        )
    names = sorted({word[0] for word in words}, key=lambda name: (len(name), name) if flat else (0, name))
    speakers = sorted({word[1] for word in words if len(word) > 1})
    extra: dict[str, Array] = {}
    if len(speakers) > 1 and min(map(len, words)) > 2:
        extra["speaker"] = np.asarray([speakers.index(word[1]) for word in words], dtype=np.int64)
    labels = np.asarray([names.index(word[0]) for word in words], dtype=np.int64)
    source = _source(
        str(folder),
        len(files),
        lambda position: quarantined(parse_wav, files[position]),
        labels=None if unlabelled else labels,
        names=tuple(names),
        extra=extra,
    )
    return replace(source, files=tuple(map(str, files)), named=not unlabelled)


def recorded_source(
    where: str,
    audio: Array,
    offsets: Array,
    rate: int,
    *,
    labels: Array | None,
    names: Sequence[str] = (),
    extra: dict[str, Array] | None = None,
) -> Source:
    """Return recordings that lie one behind the other in one array.

    Args:
        where: the file, for error texts.
        audio: all samples (S,).
        offsets: where each recording begins, and the last one's end, (N + 1,).
        rate: samples per second.
        labels: as stored, or None.
        names: of the classes, or empty.
        extra: per-recording arrays.

    Raises:
        DataError: arrays that do not fit each other.

    """
    if audio.ndim != 1 or audio.dtype.kind not in "iuf":
        raise DataError(f"{where}: expected audio in one row, got {audio.dtype} of shape {audio.shape}")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise DataError(f"{where}: expected N + 1 whole offsets, got shape {offsets.shape}")
    if not 1000 <= rate <= 192_000:
        raise DataError(f"{where}: expected a rate of 1000 to 192000 samples per second, got {rate}")
    ends = offsets.astype(np.int64)
    if ends[0] < 0 or ends[-1] > len(audio) or bool((np.diff(ends) <= 0).any()):
        raise DataError(
            f"{where}: expected rising offsets within {len(audio)} samples, got {int(ends[0])} to "
            f"{int(ends[-1])}"
        )
    return _source(
        where,
        len(ends) - 1,
        lambda position: (audio[ends[position] : ends[position + 1]], rate),
        labels=labels,
        names=tuple(names),
        extra=extra or {},
    )


def _source(
    where: str,
    count: int,
    recording: Callable[[int], tuple[Array, int]],
    *,
    labels: Array | None,
    names: tuple[str, ...],
    extra: dict[str, Array],
) -> Source:
    def fetch(index: NDArray[np.int64]) -> Fetched:
        images = []
        for position in index.tolist():
            signal, rate = recording(position)
            if signal.dtype.kind == "f" and not np.isfinite(signal).all():
                raise DataError(f"{where}: expected finite samples, got NaN or infinity ({position})")
            images.append(spectrogram(signal, rate))
        return np.stack(images), []

    return Source(
        where=where, count=count, fetch=fetch, labels=labels, class_names=names, notes=(_NOTE,), extra=extra
    )


def parse_wav(path: Path) -> tuple[Array, int]:
    """Return the samples of a wav file (N,), its channels averaged, and its rate in Hz.

    Raises:
        DataError: it is no uncompressed PCM wav, damaged, or too long.

    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate, count = (
                file.getsampwidth(), file.getnchannels(), file.getframerate(), file.getnframes(),
            )  # fmt: skip
            if not (0 < count * channels <= MOST_SAMPLES and 1000 <= rate <= 192_000):
                raise DataError(
                    f"{path}: expected 1 to {MOST_SAMPLES:,} samples at 1000 to 192000 Hz, "
                    f"got {count * channels:,} at {rate}"
                )
            raw = file.readframes(count)
    except (wave.Error, EOFError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise DataError(f"{path}: expected an uncompressed PCM wav file: {error}") from error
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    if not raw:
        raise DataError(f"{path}: the file is truncated: it holds no samples")
    return _samples(raw, width).reshape(-1, channels).mean(1), rate


def _samples(raw: bytes, width: int) -> Array:
    if width == 1:  # the only unsigned one
        return np.frombuffer(raw, np.uint8).astype(np.float64) - 128
    if width == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int64)
        values: Array = parts[:, 0] + (parts[:, 1] << 8) + (parts[:, 2] << 16)
        return np.where(values >= 1 << 23, values - (1 << 24), values).astype(np.float64)
    return np.frombuffer(raw, f"<i{width}").astype(np.float64)
