"""Files that are packed as a whole, with gzip, bzip2 or xz, read as the plain files that they hold."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from detrojan.data.walking import first_bytes, open_plain

#: what reading a damaged file may raise
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)

#: how a packed file begins, and what opens it
_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


class Unpacked:
    """What a file holds, unpacked while it is read; a plain file as it is. A context manager.

    Seeking forward costs unpacking what lies between, and seeking back costs beginning again.

    Args:
        path: the file.

    Raises:
        UnsafeFileError: it is no plain file.
        DataError: there is no such file, or it cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._file = open_plain(path)
        start = self._file.read(8)
        self._file.seek(0)
        opener = next((opener for magic, opener in _OPENERS if start.startswith(magic)), None)
        self._stream = self._file if opener is None else opener(self._file)

    def __enter__(self) -> IO[bytes]:
        """Return the stream."""
        return self._stream

    def __exit__(self, *_: object) -> None:
        """Close the stream and the file."""
        self._stream.close()
        self._file.close()


def is_packed(path: Path) -> bool:
    """Tell whether a file is packed as a whole.

    Raises:
        DataError: it cannot be read.

    """
    return first_bytes(path, 8).startswith(tuple(magic for magic, _ in _OPENERS))
