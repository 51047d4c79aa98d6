"""How a plain tree leaves the quarantine: JSON for what is small, shared memory for what is large.

What comes out may be an attacker's. So nothing is unpickled: every number, text, place and shape is checked.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: longest JSON in bytes, deepest tree, and widest array
LARGEST, DEEPEST, _MOST_AXES = 16 << 20, 64, 32
#: arrays begin at a multiple of this many bytes
_ALIGNED = 64
_DTYPE = re.compile(r"[<>|=]?(?:[biu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|b1|[SU]\d{1,9})")
_TORCH = re.compile(r"[a-z][a-z0-9_]{2,20}")


class TreeError(ValueError):
    """A tree that cannot be written, or is not what its writer may write."""


@dataclass
class _Writer:
    """Collects the bytes of a tree, and where each piece goes."""

    pieces: list[tuple[int, np.ndarray[Any, Any]]] = field(default_factory=list)
    size: int = 0

    def place(self, piece: np.ndarray[Any, Any]) -> int:
        start = -(-self.size // _ALIGNED) * _ALIGNED
        self.pieces.append((start, piece))
        self.size = start + piece.nbytes
        return start

    def write(self, value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise TreeError(f"values nested deeper than {DEEPEST}")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float | np.number):
            return _number(value)
        if isinstance(value, list):
            return [self.write(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return {"t": [self.write(item, depth + 1) for item in value]}
        if isinstance(value, dict):
            return {
                "d": [
                    [self.write(key, depth + 1), self.write(item, depth + 1)] for key, item in value.items()
                ]
            }
        return self._large(value)

    def _large(self, value: Any) -> Any:
        if isinstance(value, Path):
            return {"p": str(value)}
        if isinstance(value, bytes | bytearray):
            raw = np.frombuffer(value, np.uint8)
            return {"y": [len(raw), self.place(raw)]}
        if isinstance(value, np.ndarray):
            return {"a": [_checked_dtype(value.dtype.str).str, list(value.shape), self.place(value)]}
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return self._tensor(value, torch)
        raise TreeError(f"a {type(value).__name__}, which is not a plain value")

    def _tensor(self, value: Any, torch: Any) -> Any:
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise TreeError(f"a tensor that is not dense, {value.layout}")
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return {"T": [str(value.dtype).removeprefix("torch."), list(value.shape), self.place(raw)]}


def _number(value: Any) -> Any:
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > 64:
        raise TreeError("a number that needs more than 64 bits")
    if not isinstance(value, int | float):
        raise TreeError(f"a {type(value).__name__}, which is not a plain number")
    return value


def _checked_dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise TreeError(f"an array of {text!r:.40}, which is not of plain numbers or texts")
    return np.dtype(text)


def written(value: Any) -> tuple[bytes, _Writer]:
    """Return a tree as JSON, and what else it takes.

    Raises:
        ValueError: it is no plain tree, or too large or deep.

    """
    writer = _Writer()
    text = json.dumps({"value": writer.write(value), "size": writer.size}).encode()
    if len(text) > LARGEST:
        raise TreeError(f"{len(text):,} bytes of names and numbers, more than {LARGEST:,}")
    return text, writer


def fill(file: int, writer: _Writer) -> None:
    """Copy the large pieces of a tree into the shared memory behind a file descriptor."""
    if not writer.size:
        return
    with mmap.mmap(file, writer.size) as shared:
        for start, piece in writer.pieces:
            if piece.nbytes:
                whole = np.frombuffer(shared, np.uint8, piece.nbytes, start)
                np.copyto(whole.view(piece.dtype).reshape(piece.shape), piece)
                del whole


@dataclass(frozen=True)
class _Reader:
    """Builds a tree again out of what was written."""

    content: mmap.mmap | None
    size: int

    def read(self, value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise TreeError(f"values nested deeper than {DEEPEST}")
        if value is None or isinstance(value, bool | str | float):
            return value
        if isinstance(value, int):
            return _number(value)
        if isinstance(value, list):
            return [self.read(item, depth + 1) for item in value]
        if not isinstance(value, dict) or len(value) != 1:
            raise TreeError("something that no tree holds")
        ((kind, inner),) = value.items()
        readers = {"t": self._tuple, "d": self._dict, "p": self._path, "y": self._bytes, "a": self._array}
        reader = {**readers, "T": self._tensor}.get(kind)
        if reader is None:
            raise TreeError(f"a value of the kind {kind!r:.20}")
        return reader(inner, depth)

    def _tuple(self, inner: Any, depth: int) -> Any:
        return tuple(self.read(item, depth + 1) for item in _listed(inner))

    def _dict(self, inner: Any, depth: int) -> Any:
        pairs = [_listed(pair, 2) for pair in _listed(inner)]
        return {_key(self.read(key, depth + 1)): self.read(item, depth + 1) for key, item in pairs}

    def _path(self, inner: Any, _depth: int) -> Any:
        if not isinstance(inner, str):
            raise TreeError("a path that is no text")
        return Path(inner)

    def _bytes(self, inner: Any, _depth: int) -> Any:
        length, start = _listed(inner, 2)
        return self._raw([length], 1, start).tobytes()

    def _array(self, inner: Any, _depth: int) -> Any:
        text, shape, start = _listed(inner, 3)
        dtype = _checked_dtype(text)
        if dtype.itemsize == 0:
            return np.empty(_sides(shape), dtype)
        return self._raw(shape, dtype.itemsize, start).view(dtype).reshape(shape)

    def _tensor(self, inner: Any, _depth: int) -> Any:
        import torch  # noqa: PLC0415 - only who asks for tensors has it

        name, shape, start = _listed(inner, 3)
        dtype = getattr(torch, name, None) if isinstance(name, str) and _TORCH.fullmatch(name) else None
        if not isinstance(dtype, torch.dtype):
            raise TreeError(f"a tensor of {name!r:.40}")
        raw = self._raw(shape, dtype.itemsize, start)
        values = torch.from_numpy(raw).view(dtype) if len(raw) else torch.empty(0, dtype=dtype)
        return values.reshape(shape)

    def _raw(self, shape: Any, itemsize: int, start: Any) -> np.ndarray[Any, Any]:
        """Return the bytes of an array of `shape`."""
        count = itemsize * math.prod(_sides(shape))
        if not isinstance(start, int) or not 0 <= start <= start + count <= self.size or start % _ALIGNED:
            raise TreeError("an array that lies outside of the shared memory")
        if not count or self.content is None:
            return np.empty(0, np.uint8)
        return np.frombuffer(self.content, np.uint8, count, start)


def _listed(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise TreeError("a value of another form than its kind has")
    return value


def _sides(shape: Any) -> list[int]:
    sides = _listed(shape)
    if len(sides) > _MOST_AXES or not all(type(side) is int and 0 <= side < 1 << 48 for side in sides):
        raise TreeError("an array of an impossible shape")
    return sides


def _key(value: Any) -> Any:
    if isinstance(value, list | dict | np.ndarray):
        raise TreeError("a key that is no plain value")
    return value


def read(text: bytes, file: int, largest: int) -> Any:
    """Build a tree again out of its JSON and the shared memory behind a file descriptor.

    Arrays and tensors lie in that memory: nothing is copied, and nobody else sees what is written to them.

    Args:
        text: the JSON.
        file: the descriptor.
        largest: how many bytes the memory may have.

    Raises:
        ValueError: it is not what a child may hand back.

    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TreeError("something that is not JSON") from error
    size = found.get("size") if isinstance(found, dict) else None
    if type(size) is not int or not 0 <= size <= largest or found.keys() != {"value", "size"}:
        raise TreeError("an answer without its size")
    content = None
    if size:
        content = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return _Reader(content, size).read(found["value"])
