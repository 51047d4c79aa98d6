"""Writes a report's file so that nobody ever meets half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from detrojan.errors import InputError


def save_bytes(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path`, making parent folders; an older file stays whole until the end.

    A pipe or device (such as /dev/stdout) is written to directly, since it cannot be replaced.

    Returns:
        The path as it was given.

    Raises:
        InputError: the file cannot be written; the message names the reason.

    """
    target = Path(path).resolve()
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise InputError(f"expected a file to write the report to, got the folder {path}")
            target.write_bytes(content)
            return Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(target)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise InputError(f"cannot write the report {path}: {error.strerror or error}") from error
    return Path(path)


def save_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, as `save_bytes` does."""
    return save_bytes(path, text.encode("utf-8", "backslashreplace"))
