"""Makes the streams of the process such that a text can always be written to them."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress

#: what a full disk, a quota, or a broken device say
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def settle_streams() -> None:
    """Open what is closed, and write what an encoding has no letters for as question marks.

    A closed stream would be None, and the next file that is opened would take its place.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper) and not _is_unicode(stream.encoding):
            stream.reconfigure(errors="replace")


def _is_unicode(encoding: str) -> bool:
    with suppress(LookupError):
        return codecs.lookup(encoding).name.startswith("utf")
    return False


def full(error: OSError) -> str:
    """Return what to say where standard output takes no more; empty for an error of another kind."""
    if error.errno not in _FULL or error.filename is not None:
        return ""
    return f"expected room for what is written, got: {os.strerror(error.errno or 0)}"


def let_go() -> str:
    """Write what standard output still holds, at the end of the process.

    Return what to say where it takes no more, else nothing. What it did not take is dropped: it would be
    tried once more when the process ends, and end it with a text and an exit code of Python's own.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return full(error)
    return ""
