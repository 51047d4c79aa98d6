"""The files of a guard's folder: only those that `guard.json` names, with the content that it states."""

from __future__ import annotations

from pathlib import Path

from detrojan.errors import DataError
from detrojan.guards.record import VALUES, Named
from detrojan.models.loading import file_sha256

#: what is not yet counted begins so
ASIDE = ".new."


def whole(folder: Path, named: Named) -> Path:
    """Return the file that belongs to the guard: under its name, or still aside as a save was stopped.

    Raises:
        DataError: it is not there, or has another content.

    """
    if Path(named.file).name != named.file:
        raise DataError(f"{folder / VALUES}: expected a file of the same folder, got {named.file!r:.80}")
    if not named.sha256:
        _refuse_outside(folder / named.file, folder)
        return folder / named.file
    for path in (folder / named.file, folder / f"{ASIDE}{named.file}"):
        _refuse_outside(path, folder)
        if path.is_file() and file_sha256(path) == named.sha256:
            return path
    raise DataError(
        f"{folder}: expected {named.file} with the SHA-256 {named.sha256:.12} that {VALUES} states, got "
        + ("another one" if (folder / named.file).is_file() else "no such file")
    )


def _refuse_outside(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of the guard's folder."""
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if path.is_symlink() and not inside:
        raise DataError(f"{path}: expected a file of the guard's folder, got a link that leads out of it")
