"""Weights of an ONNX file that lie in other files beside it, as exporters write them for large networks."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.files import file_in
from detrojan.models.formats.onnx.proto import load_proto, onnx_library
from detrojan.quarantine import quarantined

#: more files than these are no network of one layer each
_MOST_FILES = 4096
#: digits of a place in a file
_MOST_DIGITS = 15
_LOCATION = b"location"


def weight_files(path: Path) -> dict[str, Path]:
    """Return the files beside an ONNX file that hold weights of it, by the names it calls them.

    Raises:
        ModelError: damaged, or one of them is not there.
        UnsafeFileError: a name that leads out of the folder, or to what is no plain file.

    """
    named: list[str] = quarantined(parse_locations, path)
    found = {}
    for name in named:
        try:
            found[name] = file_in(path.parent, name, UnsafeFileError, missing=ModelError)
        except ModelError as error:
            raise type(error)(f"{path}: weights of it lie in another file: {error}") from error
    return found


def parse_locations(path: Path) -> list[str]:
    """Return the names of the other files that an ONNX file keeps weights in.

    Args:
        path: the ONNX file.

    Raises:
        ModelError: damaged, or too many files.

    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_LOCATION) < 0:  # most files, without parsing them
            return []
    names = {_entries(one).get("location", "") for one in tensors_of(load_proto(path)) if is_external(one)}
    if len(names) > _MOST_FILES:
        raise ModelError(f"{path}: expected weights in at most {_MOST_FILES} files, got {len(names)}")
    return sorted(names)


def tensors_of(model: Any) -> Iterator[Any]:
    """Yield all tensors of a model's graph: its initializers, and the attributes of its nodes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def is_external(tensor: Any) -> bool:
    """Tell whether a tensor's numbers lie in another file."""
    return tensor.data_location == 1 or bool(tensor.external_data)


def _entries(tensor: Any) -> dict[str, str]:
    return {one.key: one.value for one in tensor.external_data}


def fill(tensor: Any, files: Mapping[str, Path], where: str) -> None:
    """Give a tensor its numbers, which lie in another file; it is as if they had been in its own.

    Args:
        tensor: of the ONNX file.
        files: what `weight_files` found.
        where: the tensor, for error texts.

    Raises:
        ModelError: the file is shorter than the tensor says, or it says no plain place and length.
        UnsafeFileError: a file that was not looked at.

    """
    said = _entries(tensor)
    path = files.get(said.get("location", ""))
    if path is None:
        name = said.get("location", "")
        raise UnsafeFileError(f"{where}: expected weights in a file beside this one, got {name!r:.80}")
    size = path.stat().st_size
    length = math.prod(tensor.dims) * _itemsize(tensor, where)
    start, stated = (_number(said, key, where) for key in ("offset", "length"))
    start = start or 0
    if stated not in {None, length}:
        raise ModelError(f"{where}: expected {length:,} bytes for its shape, got {stated:,}")
    if start + length > size:
        raise ModelError(
            f"{where}: expected {length:,} bytes from byte {start:,} of {path.name}, which has {size:,}"
        )
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(length)
    if len(content) != length:
        raise ModelError(f"{where}: expected {length:,} bytes from {path.name}, got {len(content):,}")
    tensor.raw_data = content
    del tensor.external_data[:]
    tensor.data_location = 0


def _itemsize(tensor: Any, where: str) -> int:
    try:
        return int(onnx_library().helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: expected numbers, got elements of type {tensor.data_type}") from error


def _number(said: Mapping[str, str], key: str, where: str) -> int | None:
    text = said.get(key)
    if text is None or (key == "length" and text in {"", "0"}):
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ModelError(f"{where}: expected its {key} as a whole number of 0 or more, got {text!r:.40}")
    return int(text)
