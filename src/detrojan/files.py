"""Writes files and folders so that nobody ever meets half of one."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detrojan.errors import InputError


def at_home(path: str | Path) -> Path:
    """Return a path whose beginning ~ stands for the home folder, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises where there is no such person


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give an empty file beside `path` to write to; it takes the place of `path` at the end.

    An older file stays whole until then, and for good where the body raises. The new file has the
    permissions that any new file of this process has. A link is followed: what it names is replaced.

    Args:
        path: where the file goes; its folder has to exist.

    Yields:
        The file to write to.

    Raises:
        OSError: the file cannot be written, or `path` is a folder, a pipe or a device.

    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        kind, text = (errno.EISDIR, "a folder") if target.is_dir() else (errno.EEXIST, "a pipe or a device")
        raise OSError(kind, f"expected a file, got {text}", str(path))
    scratch = _beside(target)
    os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        mode = stat.S_IMODE(scratch.stat().st_mode)
        yield scratch
        scratch.chmod(mode)  # what writes may have made the file anew
        scratch.replace(target)
    except BaseException:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(
    path: str | Path, *, keep: Callable[[Path], bool] = lambda _entry: False
) -> Iterator[Path]:
    """Give an empty folder beside `path` to write to; it takes the place of `path` at the end.

    An older folder stays whole until then, and for good where the body raises. It is moved aside
    and then removed; a crash between the two moves leaves it beside `path`, under a name that ends in .tmp.

    Args:
        path: where the folder goes; the folder that it lies in has to exist.
        keep: says of a file or folder in the older folder whether it moves to the new one.
            What the new one has by the same name stays.

    Yields:
        The folder to write to.

    Raises:
        OSError: the folder cannot be written or moved, or `path` is a file.

    """
    target = Path(path).resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder, got a file", str(path))
    scratch = _beside(target)
    scratch.mkdir()
    try:
        yield scratch
        older = _moved_aside(target)
        try:
            scratch.rename(target)
        except BaseException:
            if older is not None:
                with suppress(OSError):  # another process may have put its own there
                    older.rename(target)
            raise
        if older is not None:
            _carry_over(older, target, keep)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _beside(target: Path) -> Path:
    """Return a free name in the same folder, hidden, and never too long."""
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")


def _moved_aside(target: Path) -> Path | None:
    older = _beside(target)
    try:
        target.rename(older)
    except FileNotFoundError:
        return None
    return older


def _carry_over(older: Path, target: Path, keep: Callable[[Path], bool]) -> None:
    """Move what is to be kept, then remove the rest; where a move fails, all of the rest stays."""
    shutil.copymode(older, target)
    for entry in older.iterdir():
        if not os.path.lexists(target / entry.name) and keep(entry):
            entry.rename(target / entry.name)
    shutil.rmtree(older, ignore_errors=True)


#: files longer than this are looked at for holes, and may store this share of their length or more
_LONG, _STORED = 1 << 30, 1 / 16
_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def special(mode: int) -> str | None:
    """Return what a file of this mode is, if it is no plain file and no folder."""
    return next((name for is_so, name in _SPECIAL if is_so(mode)), None)


def refuse_special(path: str | Path, failure: type[InputError] = InputError) -> None:
    """Refuse to read what is no plain file: a pipe or a device never ends, a file full of holes hardly.

    A folder, and what does not exist, are left to whoever reads it.

    Args:
        path: what is going to be read.
        failure: the error to raise.

    Raises:
        InputError: a pipe, a device, a socket, or a long file that stores next to nothing; of the type
            `failure`.

    """
    try:
        found = os.stat(path)  # noqa: PTH116 - also takes text
    except (OSError, ValueError):
        return
    kind = special(found.st_mode)
    if kind is not None:
        raise failure(f"{path}: expected a plain file, got {kind}")
    stored = getattr(found, "st_blocks", found.st_size) * 512
    if stat.S_ISREG(found.st_mode) and found.st_size > _LONG and stored < found.st_size * _STORED:
        raise failure(
            f"{path}: expected a file that stores what it holds, got one of {found.st_size:,} bytes that "
            f"stores {stored:,}"
        )


#: no file system has longer names, in bytes
_LONGEST_NAME = 255


def file_in(folder: Path, name: str, failure: type[InputError], *, missing: type[InputError]) -> Path:
    """Return the path of a plain file that lies directly in a folder, by a name that comes from a stranger.

    A link may lead to another file of the folder, or to where the hub's cache keeps the files of a model.

    Args:
        folder: where it has to lie.
        name: of the file, without any folder.
        failure: the error to raise for a name that leads elsewhere, and for what is no plain file.
        missing: the error to raise where there is no such file.

    Raises:
        InputError: of these two types.

    """
    plain = name not in {"", ".", ".."} and Path(name).name == name and not {"\\", "\0"} & set(name)
    if not plain or len(os.fsencode(name)) > _LONGEST_NAME:
        raise failure(f"{folder}: expected the name of a file in it, got {name!r:.80}")
    path = folder / name
    try:
        home, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise failure(f"{folder}: expected the file {name}, got a link that leads nowhere") from error
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if target.parent not in allowed:
        raise failure(f"{folder}: expected files that lie in it, got a link {name} that leads out of it")
    refuse_special(path, failure)
    if not target.is_file():
        raise missing(f"{folder}: expected the file {name}, got none")
    return path


def read_bounded(path: str | Path, most: int, failure: type[InputError] = InputError) -> bytes:
    """Return the content of a plain file of at most `most` bytes.

    Args:
        path: the file.
        most: bytes.
        failure: the error to raise for a special file, and for one that is too long.

    Raises:
        OSError: it cannot be read.
        InputError: no plain file, or too long; of the type `failure`.

    """
    refuse_special(path, failure)
    with Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise failure(f"{path}: expected at most {most:,} bytes, got more")
    return content


def save_bytes(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path`, making parent folders; an older file stays whole until the end.

    A pipe or device (such as /dev/stdout) is written to directly, since it cannot be replaced.

    Returns:
        The path as it was given.

    Raises:
        InputError: the file cannot be written; the message names the reason.

    """
    target = Path(path)
    try:
        if target.is_dir():
            raise InputError(f"expected a file to write the report to, got the folder {path}")
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error.strerror or error}") from error
    return target


def save_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, as `save_bytes` does."""
    return save_bytes(path, text.encode("utf-8", "backslashreplace"))
