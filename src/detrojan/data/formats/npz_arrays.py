"""The arrays of NumPy's `.npz` files, read without ever unpickling anything."""

from __future__ import annotations

import lzma
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from detrojan.data.source import Array, check_bytes
from detrojan.data.walking import open_plain
from detrojan.errors import DataError, UnsafeFileError
from detrojan.quarantine import quarantined

#: what reading a damaged file may raise
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    RuntimeError,  # also NotImplementedError: encrypted, or a compression that zipfile does not know
    OverflowError,
)
#: the type of an array as its header writes it, where it is of a simple kind
_SIMPLE = re.compile(r"[<>|=]?[a-zA-Z]\d{0,9}(\[\w{1,10}\])?")


@dataclass(frozen=True)
class Header:
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{what}: the file is truncated or damaged: {error}") from error


def parse_headers(path: Path) -> dict[str, Any]:
    """Return shape and type of each array of a file, by name, and whether there are pickles beside them.

    Raises:
        DataError: it is damaged.

    """
    with _explained(str(path)), zipfile.ZipFile(path) as file:
        names = file.namelist()
        headers = {name.removesuffix(".npy"): _header(file, name) for name in names if name.endswith(".npy")}
    return {"pickled": any(name.endswith((".pkl", ".pickle")) for name in names), "headers": headers}


def parse_array(path: Path, name: str) -> Array:
    """Return one array of a file; never a pickled one.

    Raises:
        DataError: it is damaged.

    """
    with (
        _explained(f"{path}: array {name}"),
        zipfile.ZipFile(path) as file,
        file.open(f"{name}.npy") as stream,
    ):
        values: Array = npy.read_array(stream, allow_pickle=False)
    return values


#: bytes of an array that are passed over at a time
_PIECE = 1 << 22


def parse_rows(path: Path, name: str, rows: Array) -> Array:
    """Return some rows of one array of a file; the others are read over, and take no memory.

    Args:
        path: the file.
        name: of the array, which is none of Python objects.
        rows: which ones, ascending, each once.

    Raises:
        DataError: it is damaged, or ends before the last row.

    """
    what = f"{path}: array {name}"
    with _explained(what), zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as stream:
        return _rows_of(stream, rows)


def _rows_of(stream: IO[bytes], rows: Array) -> Array:
    """Return some rows of the array that a stream holds."""
    shape, text, by_columns = _read_header(stream)
    start = stream.tell()
    if by_columns:  # its rows do not lie one behind the other
        stream.seek(0)
        whole: Array = npy.read_array(stream, allow_pickle=False)
        return whole[rows]
    size = np.dtype(text).itemsize * math.prod(shape[1:])
    found = np.empty((len(rows), size), np.uint8)
    for place, row in enumerate(rows.tolist()):
        _skip(stream, start + row * size)
        found[place] = np.frombuffer(stream.read(size), np.uint8)
    values: Array = found.view(text).reshape(len(rows), *shape[1:])
    return values


def parse_loose_header(path: Path) -> tuple[tuple[int, ...], str]:
    """Return shape and type of the array of an `.npy` file.

    Raises:
        DataError: it is damaged.

    """
    with _explained(str(path)), open_plain(path) as stream:
        return _read_header(stream)[:2]


def parse_loose(path: Path) -> Array:
    """Return the array of an `.npy` file; never a pickled one.

    Raises:
        DataError: it is damaged.

    """
    with _explained(str(path)), open_plain(path) as stream:
        values: Array = npy.read_array(stream, allow_pickle=False)
    return values


def parse_loose_rows(path: Path, rows: Array) -> Array:
    """Return some rows of the array of an `.npy` file, ascending, each once.

    Raises:
        DataError: it is damaged, or ends before the last row.

    """
    with _explained(str(path)), open_plain(path) as stream:
        return _rows_of(stream, rows)


def _skip(stream: IO[bytes], wanted: int) -> None:
    while stream.tell() < wanted:
        if not stream.read(min(_PIECE, wanted - stream.tell())):
            raise EOFError("it ends early")


def _header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], str]:
    with file.open(name) as stream:
        return _read_header(stream)[:2]


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], str, bool]:
    """Return shape and type of the array in a stream, and whether it is stored by columns."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, by_columns, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, by_columns, dtype = npy.read_array_header_2_0(stream)
    else:
        raise ValueError(f"the array has version {version} of the format")
    return shape, "|O" if dtype.hasobject else dtype.str, bool(by_columns)


def plain_dtype(text: Any) -> np.dtype[Any]:
    """Return the type that a header names; void for what is of no simple kind."""
    return np.dtype(text if isinstance(text, str) and _SIMPLE.fullmatch(text) else "V")


class Arrays:
    """The arrays of one file: all headers are read at once, contents only when asked for.

    Args:
        path: the file.

    Raises:
        DataError: it is damaged.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = quarantined(parse_headers, path)
        self.has_pickle = bool(found["pickled"])
        self.headers: dict[str, Header] = {
            name: Header(tuple(shape), plain_dtype(text)) for name, (shape, text) in found["headers"].items()
        }

    def listed(self) -> str:
        """Return the first dozen arrays with their shapes, for errors."""
        shown = [f"{name} {header.shape}" for name, header in list(self.headers.items())[:12]]
        return ", ".join(shown) or "none"

    def refuse_pickle(self, name: str) -> None:
        """Refuse an array of Python objects.

        Raises:
            UnsafeFileError: it is one.

        """
        if self.headers[name].dtype.hasobject:
            raise UnsafeFileError(
                f"{self.path}: array {name} holds Python objects; a pickle inside would run code from the "
                "file, so it is not read. Save it as numbers or text."
            )

    def rows(self, name: str, index: Array) -> Array:
        """Return some rows of one array, in any order; the whole of it may be of any size.

        Raises:
            UnsafeFileError: it is pickled.
            DataError: these rows are too large, or it is damaged.

        """
        self.refuse_pickle(name)
        header = self.headers[name]
        rows, places = np.unique(index, return_inverse=True)
        check_bytes((len(rows), *header.shape[1:]), header.dtype.itemsize, f"{self.path}: array {name}")
        return self._rows(name, rows)[places]

    def read(self, name: str) -> Array:
        """Return one array.

        Raises:
            UnsafeFileError: it is pickled.
            DataError: it is too large, or damaged.

        """
        self.refuse_pickle(name)
        header = self.headers[name]
        check_bytes(header.shape, header.dtype.itemsize, f"{self.path}: array {name}")
        return self._whole(name)

    def _rows(self, name: str, rows: Array) -> Array:
        """Return rows of an array that is no pickle, ascending, each once."""
        values: Array = quarantined(parse_rows, self.path, name, rows)
        return values

    def _whole(self, name: str) -> Array:
        """Return an array that is no pickle."""
        values: Array = quarantined(parse_array, self.path, name)
        return values


def read_arrays(path: Path, names: Sequence[str]) -> list[Array]:
    """Return named arrays of an `.npz` file, whatever they mean.

    Args:
        path: the file.
        names: of the arrays.

    Raises:
        UnsafeFileError: one is pickled.
        DataError: the file is damaged, or one is not in it.

    """
    arrays = Arrays(path)
    missing = [name for name in names if name not in arrays.headers]
    if missing:
        raise DataError(f"{path}: expected an array {missing[0]}, got {', '.join(arrays.headers) or 'none'}")
    return [arrays.read(name) for name in names]
