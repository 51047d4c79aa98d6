"""Looks through a folder from outside: what is a plain file in it, and what is better left alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from detrojan.errors import DataError, UnsafeFileError
from detrojan.files import refuse_special, special

#: what systems and editors leave behind; nobody means it
LITTER = {"__macosx", "thumbs.db", "desktop.ini", ".ds_store", ".ipynb_checkpoints", ".localized"}
#: folders deeper than this are not looked into
_DEEPEST = 32


@dataclass
class Walk:
    """What lies in a folder.

    Attributes:
        files: paths of plain files below the folder, in sorted order.
        folders: the folders directly in it, in sorted order.
        hidden: hidden files that were left out.
        outward: links that lead out of the folder, or nowhere; they were not followed.

    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    outward: list[Path] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return what a person should know of links."""
        if not self.outward:
            return []
        said = f"{len(self.outward)} links that lead out of the folder were not followed"
        return [f"warning: {said} ({self.outward[0].name}, ...); copy in what they lead to"]


def walk(folder: Path, *, deep: bool = True, top: Path | None = None) -> Walk:
    """Look through a folder.

    Links are followed where they stay within `top`. Litter such as `.DS_Store`, `Thumbs.db`, `__MACOSX` and
    `.ipynb_checkpoints` is passed over.

    Args:
        folder: where to look.
        deep: also look into the folders in it.
        top: links must not lead out of this folder; None for `folder` itself.

    Raises:
        DataError: the folder cannot be read.

    """
    found = Walk()
    _look(folder, found, (top or folder).resolve(), deep=deep, above=())
    found.files.sort()
    found.folders.sort()
    return found


def _look(folder: Path, found: Walk, top: Path, *, deep: bool, above: tuple[Path, ...]) -> None:
    try:
        here = folder.resolve()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    if here in above or len(above) >= _DEEPEST:
        return
    for entry in entries:
        path, hidden = folder / entry.name, entry.name.startswith(".")
        if _is_litter(entry):
            continue
        if entry.is_symlink() and not _stays(path, top):
            found.outward.append(path)
        elif entry.is_dir():
            if not above:
                found.folders.append(path)
            if deep:
                _look(path, found, top, deep=True, above=(*above, here))
        else:
            (found.hidden if hidden else found.files).append(path)


def _is_litter(entry: os.DirEntry[str]) -> bool:
    """Tell whether nobody means an entry: what systems leave behind, and hidden folders."""
    name = entry.name
    return name.lower() in LITTER or name.startswith("._") or (name.startswith(".") and entry.is_dir())


def _stays(path: Path, top: Path) -> bool:
    """Tell whether a link leads to something within a folder."""
    try:
        return path.resolve(strict=True).is_relative_to(top)
    except (OSError, RuntimeError):
        return False


def open_plain(path: Path, top: Path | None = None) -> IO[bytes]:
    """Open a plain file.

    Args:
        path: the file.
        top: a folder that links must not lead out of, or None.

    Raises:
        UnsafeFileError: it is a FIFO, a device or a socket, or a link that leads out of the folder.
        DataError: there is no such file, or it cannot be read.

    """
    if top is not None and not _stays(path, top.resolve()) and path.exists():
        raise UnsafeFileError(f"{path}: expected a file within {top}, got a link that leads out of it")
    try:
        stream = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except OSError as error:
        check_plain(path)  # a socket cannot be opened at all
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        _check_mode(path, os.fstat(stream.fileno()).st_mode)
    except UnsafeFileError:
        stream.close()
        raise
    return stream


def is_folder(path: Path) -> bool:
    """Tell whether there is such a folder; a name that no file can have names none."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib's raises for a name that is too long


def is_file(path: Path) -> bool:
    """Tell whether there is such a plain file; a name that no file can have names none."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file.

    Raises:
        DataError: it cannot be read.

    """
    try:
        with open_plain(path) as stream:
            return stream.read(count)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def check_plain(path: Path) -> None:
    """Refuse what is no plain file and no folder; what is not there is nobody's fault here.

    Raises:
        UnsafeFileError: it is a FIFO, a device or a socket, or a long file that stores next to nothing.

    """
    refuse_special(path, UnsafeFileError)


def _check_mode(path: Path, mode: int) -> None:
    kind = special(mode)
    if kind is not None:
        raise UnsafeFileError(f"{path}: expected a plain file, got {kind}")
