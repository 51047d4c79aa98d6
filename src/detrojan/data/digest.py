"""The digest of data: of the files that were used, and of no other that lies beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.source import Source
from detrojan.data.walking import open_plain
from detrojan.errors import DataError

#: files that have more bytes than this together are not read only to be hashed
MOST_HASHED = 2 * 2**30
_PIECE = 2**20


def digest_of(
    source: Source,
    place: Path,
    index: NDArray[np.int64] | None = None,
    images: NDArray[np.float32] | None = None,
) -> tuple[str, list[str]]:
    """Return the SHA-256 of a source's files, and a note where it does not cover all of their contents.

    It covers names, sizes and contents of the files. Where they have more than 2 GiB together, contents are
    covered as far as they were read: the first and last MiB of each file that holds many samples, the
    pictures' files at `index`, and the images.

    Args:
        source: the samples of one split.
        place: what was named: a file, or the folder that names are given relative to.
        index: positions of the samples that were read (n,), or None.
        images: the samples that were read (n, C, H, W), or None.

    Raises:
        DataError: a file cannot be read.

    """
    if source.sha256:
        return source.sha256, []
    held = list(source.used)
    if not source.files and not held:
        held = [place]
    own = [Path(file) for file in source.files]
    sizes = {path: _size(path) for path in {*held, *own}}
    total = sum(sizes.values())
    if len(sizes) == 1 and not own and total <= MOST_HASHED:
        return _whole(held[0]), []
    sha = hashlib.sha256()
    for path in sorted(sizes):
        name = path.relative_to(place) if path.is_relative_to(place) else path
        sha.update(f"{name.as_posix()}\0{sizes[path]}\0".encode("utf-8", "surrogateescape"))
    if total <= MOST_HASHED:
        for path in sorted(sizes):
            _feed(sha, path)
        return sha.hexdigest(), []
    for path in sorted(held):
        _feed_ends(sha, path, sizes[path])
    for position in [] if index is None or not own else sorted(index.tolist()):
        _feed(sha, own[position])
    if images is not None and not own:
        sha.update(np.ascontiguousarray(images).data)
    return sha.hexdigest(), [
        f"the SHA-256 covers names, sizes and what was read of {total / 2**30:.1f} GiB, not all contents"
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it was listed, and cannot be read


def _whole(path: Path) -> str:
    sha = hashlib.sha256()
    _feed(sha, path)
    return sha.hexdigest()


def _feed(sha: hashlib._Hash, path: Path) -> None:
    """Hash the contents of one file; one that is not there was skipped before."""
    if not path.exists():
        return
    try:
        with open_plain(path) as stream:
            while chunk := stream.read(_PIECE):
                sha.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _feed_ends(sha: hashlib._Hash, path: Path, size: int) -> None:
    try:
        with open_plain(path) as stream:
            sha.update(stream.read(_PIECE))
            stream.seek(max(0, size - _PIECE))
            sha.update(stream.read(_PIECE))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
