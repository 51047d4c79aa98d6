"""What was trained, found again by everything it depends on: tensors without pickle, and plain values."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from detrojan.errors import DetrojanError, InputError
from detrojan.files import replacing_folder

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: a folder without it is not finished
_RECORD = "made.json"


def key_of(values: Any) -> str:
    """Return a digest of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder per artefact, named by a digest of all that it depends on.

    Attributes:
        folder: where they lie.
        any_code: also take over what another version of the code has made.

    """

    folder: Path
    any_code: bool = False

    def get(
        self,
        kind: str,
        depends: Any,
        code: str,
        *,
        make: Callable[[Path], T],
        write: Callable[[T, Path], dict[str, Any]],
        read: Callable[[Path, dict[str, Any]], T],
    ) -> tuple[T, dict[str, Any]]:
        """Return an artefact and its record, made now if it is not there or cannot be read.

        Args:
            kind: a short name, part of the folder's name.
            depends: plain values that it depends on, except for the code.
            code: digest of the code that it depends on.
            make: makes it, given a folder that keeps the state of long work.
            write: writes it to a folder and returns what else is to be recorded.
            read: reads it from there, given the record.

        Raises:
            InputError: the folder cannot be written.

        """
        key = key_of([kind, depends])
        place = self.folder / f"{kind}-{key[:24]}"
        found = self._found(place, code, read)
        if found is not None:
            return found
        with self._lock(place.name):
            found = self._found(place, code, read)
            return found or self._made(kind, key, depends, code, make=make, write=write)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Let one process at a time make an artefact; the others wait, and find it then."""
        folder = self.folder / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{name}.lock")
            lock.acquire()
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def _found(
        self, place: Path, code: str, read: Callable[[Path, dict[str, Any]], T]
    ) -> tuple[T, dict[str, Any]] | None:
        """Return what lies there, if it can be used."""
        record = self._record(place, code)
        if record is None:
            return None
        try:
            return read(place, record), record
        except (DetrojanError, OSError, ValueError, KeyError, RuntimeError) as error:
            logger.warning("%s cannot be used and is made again: %s", place, error)
            return None

    def _made(
        self,
        kind: str,
        key: str,
        depends: Any,
        code: str,
        *,
        make: Callable[[Path], T],
        write: Callable[[T, Path], dict[str, Any]],
    ) -> tuple[T, dict[str, Any]]:
        place = self.folder / f"{kind}-{key[:24]}"
        running = self.folder / "running" / f"{kind}-{key_of([key, code])[:24]}"
        made = make(running)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing_folder(place) as fresh:
                kept = {**write(made, fresh), "code": code, "key": key, "depends": depends}
                (fresh / _RECORD).write_text(json.dumps(kept, indent=1, default=str) + "\n", "utf-8")
        except OSError as error:
            quicker = error.errno in {errno.ENOTEMPTY, errno.EEXIST}  # another run, and what it made stays
            if not (quicker and self._record(place, code)):
                raise InputError(f"cannot write to {place}: {error.strerror or error}") from error
        shutil.rmtree(running, ignore_errors=True)
        return made, kept

    def _record(self, place: Path, code: str) -> dict[str, Any] | None:
        try:
            record = json.loads((place / _RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict):
            return None
        if record.get("code") != code and not self.any_code:
            logger.info("%s was made by another version of the code and is made again", place)
            return None
        return record
