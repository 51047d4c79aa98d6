"""Parsers as an attacker would like to have them; the quarantine runs them by their names."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.errors import MissingExtraError, UnsafeFileError


def gives(_path: Path, value: Any) -> Any:
    """Hand back what was handed in."""
    return value


def holds(path: Path) -> bytes:
    """Hand back what is in the file."""
    return path.read_bytes()


def gives_arrays(_path: Path) -> dict[str, Any]:
    """Hand back arrays of several kinds, and bytes."""
    return {
        "float": np.arange(12, dtype=np.float32).reshape(3, 4),
        "turned": np.arange(12).reshape(3, 4).T,
        "none": np.empty((0, 5), np.uint8),
        "one": np.array(7, np.int16),
        "text": np.array(["a", "bcd"]),
        "swapped": np.array([1, 2], ">i4"),
        "bytes": b"raw",
        "complex": np.array([1 + 2j]),
    }


def gives_tensors(_path: Path) -> dict[str, Any]:
    """Hand back tensors."""
    import torch  # noqa: PLC0415

    return {"half": torch.arange(6).reshape(2, 3).bfloat16(), "turned": torch.arange(6).reshape(2, 3).T}


def gives_deep(_path: Path, depth: int) -> Any:
    """Hand back lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def gives_an_object(_path: Path) -> Any:
    """Hand back what is no plain value."""
    return object()


def gives_a_huge_number(_path: Path) -> int:
    """Hand back a number of more than 64 bits."""
    return 10**400


def takes(_path: Path, size: int) -> int:
    """Take memory."""
    return len(bytearray(size)) and len(np.ones(size, np.uint8))


def hands_back(_path: Path, size: int) -> Any:
    """Hand back much."""
    return np.zeros(size, np.uint8)


def raises(_path: Path, kind: str) -> None:
    """Raise an error."""
    if kind == "missing":
        raise MissingExtraError("onnx", "onnx", "ONNX files")
    if kind == "ours":
        raise UnsafeFileError("it would run code")
    if kind == "memory":
        raise MemoryError
    if kind == "exit":
        raise SystemExit(3)
    raise ZeroDivisionError("by zero")


def recurses(path: Path) -> None:
    """Never end."""
    recurses(path)


def computes(_path: Path) -> None:
    """Never end, and use the processor."""
    while True:
        pass


def sleeps(_path: Path) -> None:
    """Never end, and do nothing."""
    time.sleep(1000)


def crashes(_path: Path) -> None:
    """Read where no memory is."""
    ctypes.string_at(0)


def ends(_path: Path) -> None:
    """End without an answer."""
    os._exit(0)


def writes(_path: Path, target: str) -> None:
    """Write a file."""
    Path(target).write_text("something", "utf-8")


def speaks(_path: Path) -> str:
    """Write to both streams, which go nowhere."""
    os.write(1, b"out")
    os.write(2, b"error")
    return "said"


def writes_later(_path: Path) -> Any:
    """Hand back an array while a process of its own could still write to it."""
    for number in range(64):
        link = Path(f"/proc/self/fd/{number}")
        if link.is_symlink() and "memfd:detrojan" in str(link.readlink()):
            break
    shared = mmap.mmap(number, 4096)
    if os.fork() == 0:
        os.setsid()
        os.closerange(3, 64)
        shared[0] = 7
        time.sleep(5)
        os._exit(0)
    return np.ones(4)


def dies_on_a_picture(_path, items):
    """Find nothing in pictures; one of them breaks the process."""
    if any(content == b"dies" for _, _, content in items):
        os.abort()
    return [0 for _ in items]
