"""The arrays of NumPy's `.npz` files, read without ever unpickling anything."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from detrojan.data.source import Array, check_bytes
from detrojan.errors import DataError, UnsafeFileError

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
    MemoryError,
)


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


class Arrays:
    """The arrays of one file: all headers are read at once, contents only when asked for.

    Args:
        path: the file.

    Raises:
        DataError: it is damaged.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: dict[str, Header] = {}
        with _explained(str(path)), zipfile.ZipFile(path) as file:
            names = file.namelist()
            self.has_pickle = any(name.endswith((".pkl", ".pickle")) for name in names)
            for name in names:
                if name.endswith(".npy"):
                    self.headers[name.removesuffix(".npy")] = self._header(file, name)

    @staticmethod
    def _header(file: zipfile.ZipFile, name: str) -> Header:
        with file.open(name) as stream:
            version = npy.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = npy.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, _, dtype = npy.read_array_header_2_0(stream)
            else:
                raise ValueError(f"array {name} has version {version} of the format")
        return Header(shape, dtype)

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

    def read(self, name: str) -> Array:
        """Return one array.

        Raises:
            UnsafeFileError: it is pickled.
            DataError: it is too large, or damaged.

        """
        self.refuse_pickle(name)
        header = self.headers[name]
        check_bytes(header.shape, header.dtype.itemsize, f"{self.path}: array {name}")
        with (
            _explained(f"{self.path}: array {name}"),
            zipfile.ZipFile(self.path) as file,
            file.open(f"{name}.npy") as stream,
        ):
            values: Array = npy.read_array(stream, allow_pickle=False)
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
