"""A file's bytes as an array that takes no memory of its own."""

from __future__ import annotations

import mmap
from typing import IO, Any

import numpy as np


def mapped(file: IO[bytes]) -> np.ndarray[Any, Any]:
    """Return the bytes of an open file as an array (size,) that cannot be written to.

    What is read of it comes out of the file then, so that large values are not held twice. A file that
    becomes shorter meanwhile ends the process.

    Raises:
        ValueError: the file is empty.

    """
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
