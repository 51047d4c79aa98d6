"""Files that are neither models nor data, such as archives and web pages: what they are, and what helps."""

from __future__ import annotations

import os
import re
from pathlib import Path

_UNPACK = "unpack it first"
_LFS = "fetch the file itself: git lfs pull"
_FRAMES = "take pictures out of it, for example: ffmpeg -i FILE frame%05d.png"
_MATLAB = "a network in it has to be exported, for example with exportONNXNetwork"
_PICTURE = "make it PNG first, for example: magick FILE file.png"
_ARRAYS = "save its images (N, H, W, C) and labels with numpy.savez"
#: first bytes, what such a file is called, and what helps
_BEGINNINGS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x1f\x8b", "a packed file (gzip)", _UNPACK),
    (b"\x1f\x9d", "a packed file (compress)", _UNPACK),
    (b"BZh", "a packed file (bzip2)", _UNPACK),
    (b"\xfd7zXZ", "a packed file (xz)", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a packed file (zstd)", _UNPACK),
    (b"\x04\x22\x4d\x18", "a packed file (lz4)", _UNPACK),
    (b"version https://git-lfs.github.com", "a pointer of Git LFS", _LFS),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", _MATLAB),
    (b"MATLAB 7.3 MAT-file", "a MATLAB file", _MATLAB),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", _PICTURE),
    (b"SIMPLE  =", "a FITS file", _ARRAYS),
    (b"\x00\x00\x01\x00", "an icon (ICO)", _PICTURE),
    (b"8BPS", "a Photoshop picture", _PICTURE),
    (b"ARROW1", "an Arrow file", "write it as parquet, or take the folder that save_to_disk makes"),
    (b"%PDF-", "a PDF document", "take the pictures out of it first"),
    (b"\x1a\x45\xdf\xa3", "a film", _FRAMES),
    (b"SQLite format 3\0", "an SQLite database", "export what it holds first"),
    (b"\x7fELF", "a program", ""),
    (b"MZ\x90\0", "a program", ""),
)
#: at another place than the first
_INSIDE = (
    (16, b"\xde\xc0\xef\xbe", "an LMDB database", "export its pictures into folders, one for each class"),
    (8, b"AVI ", "a film", _FRAMES),
    (128, b"DICM", "a DICOM picture", _PICTURE),
    (344, b"n+1\0", "a NIfTI volume", _ARRAYS),
)
#: anywhere in the beginning, in small letters
_ANYWHERE = (
    (b"@relation", "a table of Weka's (ARFF)", _ARRAYS),
    (b"<svg", "a drawing (SVG)", "draw it into a PNG first"),
    (b"<opencv_storage", "a cascade of OpenCV", "detrojan judges neural networks that classify images"),
)
_PAGE = ("a web page, perhaps of a download that failed", "fetch the file again")
_RECORDS = ("TensorFlow's records", "write their pictures into folders, one for each class")
_STILLS = {b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc"}
_LOOK = 4096
#: what addresses begin with, as they are written, or once they were made a path
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/+", re.IGNORECASE)


def address(path: Path) -> str:
    """Return what to say where somebody names an address instead of a file; empty where it is none."""
    if not _ADDRESS.match(str(path)):
        return ""
    shown = re.sub(r":/+", "://", str(path), count=1)
    return f"{shown}: expected a file or folder, got an address; nothing is fetched, so save it first"


def stranger(path: Path) -> str:
    """Return what a file is that is neither a model nor data, and what helps; empty for any other.

    The words fit after "got". Only the first bytes are looked at.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            head = file.read(_LOOK)
    except OSError:
        return ""
    name, helps = _kind(head, path)
    return f"{name}; {helps}" if name and helps else name


def _kind(head: bytes, path: Path) -> tuple[str, str]:
    """Return the name of a kind, and what helps; both empty where it is none of them."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = (
        *((name, helps) for start, name, helps in _BEGINNINGS if head.startswith(start)),
        *((name, helps) for at, part, name, helps in _INSIDE if head[at : at + len(part)] == part),
        *(("a film", _FRAMES) for _ in range(head[4:8] == b"ftyp" and head[8:12] not in _STILLS)),
        *(_PAGE for _ in range(text.startswith((b"<!doctype html", b"<html")))),
        *((name, helps) for part, name, helps in _ANYWHERE if part in text),
        *(_RECORDS for _ in range(path.suffix.lower() in {".tfrecord", ".tfrecords"})),
        ("", ""),
    )
    return found[0]
