"""Decodes pictures in the quarantine, several in one process, and hands on one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detrojan.data.decoding import FORMATS, MOST_PIXELS, Decoded, decode, decoding, stated_size
from detrojan.data.source import Array, Encoded
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

Size = tuple[int, int]
#: a picture's name, the folder that links must not lead out of, and its file or its bytes
_Item = tuple[str, Path | None, Path | bytes]

#: pictures, and their compressed bytes, that go to one process
_MOST, _MOST_BYTES = 256, 32 << 20
#: a process hands back what it has once it has that many bytes of pixels, or took that many seconds
_ENOUGH, _LONG = 64 << 20, 5.0


def prepare() -> None:
    """Load Pillow's decoders, once for all processes that decode."""
    Image.init()


def decoded(
    encoded: Iterator[tuple[int, Encoded]], at_least: Size | None
) -> Iterator[tuple[int, Decoded | DataError]]:
    """Decode pictures one after the other.

    Args:
        encoded: pictures, each with its place.
        at_least: as for `decoding.decode`.

    Yields:
        The place and the picture; an error where it cannot be decoded, or is made to break its decoder.

    Raises:
        UnsafeFileError: one is no plain file, or lies outside.

    """
    for place, found in _apart(encoded, parse_decoded, at_least):
        yield place, found if isinstance(found, DataError) else Decoded(**found)


def stated_sizes(encoded: Iterator[tuple[int, Encoded]]) -> set[Size]:
    """Return the sizes (H, W) that the heads of pictures state; what is broken states none."""
    found = _apart(encoded, parse_sizes)
    return {size for _, size in found if not isinstance(size, DataError)}


def read_with_opacity(path: Path, channels: int, size: Size | None = None) -> Array:
    """Return a picture with its opacity as the last channel.

    Args:
        path: the file.
        channels: 1 or 3, beside the opacity.
        size: (H, W) to bring it to, bilinear.

    Returns:
        (channels + 1, H, W) float32 in [0, 1].

    Raises:
        DataError: it cannot be decoded, or is huge.

    """
    values: Array = quarantined(parse_with_opacity, path, channels, size)
    return values


def _apart(
    encoded: Iterator[tuple[int, Encoded]], parse: Callable[..., list[Any]], *args: Any
) -> Iterator[tuple[int, Any]]:
    """Yield what a parser finds in each picture."""
    for batch in _batches(encoded):
        places, items = [place for place, _ in batch], [_item(picture) for _, picture in batch]
        width = len(items)
        while items:
            found = _asked(items[:width], parse, args)
            if found is None:  # one of them ends the process: each gets its own
                width = 1
                continue
            yield from zip(places, found, strict=False)
            places, items = places[len(found) :], items[len(found) :]


def _asked(items: list[_Item], parse: Callable[..., list[Any]], args: tuple[Any, ...]) -> list[Any] | None:
    """Return what a parser finds in the first of some pictures; None where it died on several."""
    try:
        found = quarantined(parse, Path(items[0][0]), items, *args, failure=DataError)
    except DataError as error:
        return [error] if len(items) == 1 else None
    return [DataError(one) if isinstance(one, str) else one for one in found]


def _batches(encoded: Iterator[tuple[int, Encoded]]) -> Iterator[list[tuple[int, Encoded]]]:
    batch, size = list[tuple[int, Encoded]](), 0
    for place, picture in encoded:
        batch.append((place, picture))
        size += len(picture.content) if isinstance(picture.content, bytes) else 0
        if len(batch) >= _MOST or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _item(picture: Encoded) -> _Item:
    return picture.name, picture.top, picture.content


def parse_decoded(_path: Path, items: list[_Item], at_least: Size | None) -> list[dict[str, Any] | str]:
    """Decode pictures until there are enough pixels; what cannot be decoded is said in its place.

    Raises:
        UnsafeFileError: one is no plain file, or lies outside.

    """
    found, size, started = list[dict[str, Any] | str](), 0, time.process_time()
    for name, top, content in items:
        try:
            with Encoded(name, content, top).open() as stream:
                one = decode(stream, name, at_least)
        except DataError as error:
            found.append(str(error))
            continue
        found.append(vars(one))
        size += one.pixels.nbytes
        if size >= _ENOUGH or time.process_time() - started >= _LONG:
            break
    return found


def parse_sizes(_path: Path, items: list[_Item]) -> list[Size | str]:
    """Return the sizes that pictures state; what cannot be read is said in its place.

    Raises:
        UnsafeFileError: one is no plain file, or lies outside.

    """
    found = list[Size | str]()
    for name, top, content in items:
        try:
            with Encoded(name, content, top).open() as stream:
                found.append(stated_size(stream, name))
        except DataError as error:
            found.append(str(error))
    return found


def parse_with_opacity(path: Path, channels: int, size: Size | None) -> Array:
    """Return a picture with its opacity as the last channel, (channels + 1, H, W) float32 in [0, 1].

    Raises:
        DataError: it cannot be decoded, or is huge.

    """
    with decoding(str(path)), Image.open(path, formats=FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise DataError(f"{path}: expected at most {MOST_PIXELS:,} pixels")
        picture = opened.convert("RGBA" if channels == 3 else "LA")
        if size is not None:
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture).astype(np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
