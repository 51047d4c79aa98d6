"""How much memory and time the reading of a file may take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from detrojan.errors import InputError, OptionError

#: bytes beyond a multiple of the file's size, where nobody says otherwise
MEMORY = 3 << 29
#: the environment variable that holds another number of bytes; processes of ours inherit it
VARIABLE = "DETROJAN_MEMORY"
#: an ordinary file may unpack to this many times its size without counting
_TIMES = 4
#: seconds of the processor for any file, and bytes for which there is one more
_SECONDS, _PACE = 20, 5_000_000
#: a busy machine gives a process this share of the processor, or more
_BUSY = 3


@dataclass(frozen=True)
class Limits:
    """What one file may take.

    Attributes:
        memory: bytes, for the parser and what it hands back.
        seconds: of the processor.
        wall: seconds by the clock.

    """

    memory: int
    seconds: int
    wall: int


def memory() -> int:
    """Return the bytes that reading a file may take beyond a multiple of its size."""
    stated = os.environ.get(VARIABLE, "")
    return int(stated) if stated.isascii() and stated.isdecimal() else MEMORY


def allow_memory(size: int) -> None:
    """State how many bytes reading a file may take beyond a multiple of its size, in child processes too.

    Raises:
        OptionError: less than 64 MB.

    """
    if size < 1 << 26:
        raise OptionError(f"expected a memory of 64 MB or more, got {size:,} bytes")
    os.environ[VARIABLE] = str(size)


def limits_for(size: int) -> Limits:
    """Return the limits for a file of `size` bytes."""
    seconds = _SECONDS + size // _PACE
    return Limits(memory=memory() + _TIMES * size, seconds=seconds, wall=_BUSY * seconds)


def stored_size(path: Path) -> int:
    """Return how many bytes a file takes on its disk, or its length if less; 0 where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # the latter where no file can have such a name
        return 0
    blocks = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else min(found.st_size, blocks * 512)


def check_room(
    needed: int, what: str, failure: type[InputError], *, files: int = 0, way_out: str = ""
) -> None:
    """Refuse what would take more memory than reading a file may.

    Args:
        needed: bytes.
        what: the file, and what in it takes so much.
        failure: the error to raise.
        files: size of the files that it comes from, in bytes.
        way_out: what else than more memory helps.

    Raises:
        InputError: it is more; of the type `failure`.

    """
    allowed = limits_for(files).memory
    if needed > allowed:
        raise failure(
            f"{what}: expected at most {in_words(allowed)} of memory, got what takes {in_words(needed)}; "
            "--memory allows more" + (f", {way_out}" if way_out else "")
        )


def in_words(size: int) -> str:
    """Return a number of bytes for people, e.g. "1.5 GB"."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**8 else f"{size / 1e6:,.1f} MB"
