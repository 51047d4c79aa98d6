"""Reads pickles of NumPy's arrays without unpickling: dicts, lists and plain arrays, as in CIFAR's batches.

`parsing.pickles` follows the instructions; what follows here knows the few names and calls that build
plain NumPy arrays.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrojan.data.source import Array, check_bytes
from detrojan.errors import DataError, UnsafeFileError
from detrojan.parsing.pickles import Odd, PickleMachine

#: no file is longer; all of it is looked at in memory
MOST_BYTES = 1 << 30

#: the only names that such a file needs; each stands for a step of ours
_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.numeric _frombuffer": "buffer",
    "numpy._core.numeric _frombuffer": "buffer",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_WAY_OUT = "save the images and labels with numpy.savez, or use the binary version of CIFAR (.bin files)"


@dataclass
class _Name:
    what: str


@dataclass
class _Kind:
    """A dtype of plain numbers."""

    dtype: np.dtype[Any]


@dataclass
class _Block:
    """An array as it is being rebuilt."""

    values: Array | None = None


class _Machine(PickleMachine):
    """Knows the names and calls of plain arrays."""

    def refuse(self, what: str) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self.where} is a pickle, of which only dicts, lists and arrays of numbers are read, without "
            f"running it; got {what}; {_WAY_OUT}"
        )

    def named(self, module: str, name: str) -> _Name:
        text = f"{module} {name}"
        if text not in _NAMES:
            raise self.refuse(f"the name {text.replace(' ', '.')!r:.80}")
        return _Name(_NAMES[text])

    def reduced(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case _Name("array"), (_Name("ndarray"), (0,), _):
                return _Block()
            case _Name("dtype"), (str() | bytes() as kind, *_) if _NUMBERS.fullmatch(_text(kind)):
                return _Kind(np.dtype(_text(kind)))
            case _Name("encode"), (str(text), "latin1" | "latin-1"):
                return text.encode("latin-1")
            case _Name("buffer"), (
                bytes() | bytearray() as raw,
                _Kind(dtype),
                tuple(shape),
                "C" | "F" as by,
            ):
                return _Block(self._array(raw, dtype, shape, by_columns=by == "F"))
        raise self.refuse(f"a call with {arguments!r:.60}")

    def built(self, target: Any, state: Any) -> Any:
        match target, state:
            case _Kind(dtype), (_, "<" | ">" | "|" | "=" | b"<" | b">" | b"|" as order, *_):
                return _Kind(dtype.newbyteorder(_text(order)))  # type: ignore[arg-type]
            case _Block(), (
                _,
                tuple(shape),
                _Kind(dtype),
                0 | 1 as by,
                str() | bytes() as raw,
            ):
                content = raw if isinstance(raw, bytes) else raw.encode("latin-1")
                target.values = self._array(content, dtype, shape, by_columns=bool(by))
                return target
        raise self.refuse(f"a state of {type(target).__name__.lstrip('_')}")

    def _array(
        self, content: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[Any, ...], *, by_columns: bool
    ) -> Array:
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise self.refuse(f"an array of shape {shape!r:.60}")
        if check_bytes(shape, dtype.itemsize, f"{self.where}: array") != len(content):
            wanted = math.prod(shape) * dtype.itemsize
            raise DataError(
                f"{self.where}: expected {shape} bytes in an array, got {len(content)} of {wanted}"
            )
        return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def read_pickled(content: bytes, where: str) -> Any:
    """Return what a pickle holds: dicts, lists, tuples, texts, numbers and arrays of numbers.

    Args:
        content: the whole file.
        where: the file, for error texts.

    Raises:
        UnsafeFileError: the pickle holds anything else.
        DataError: it is damaged, or too long.

    """
    if len(content) > MOST_BYTES:
        raise DataError(f"{where}: expected a pickle of at most {MOST_BYTES:,} bytes, got {len(content):,}")
    machine = _Machine(where)
    try:
        return _value(machine.load(content))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: the file is truncated or damaged: {error}") from error


def read_batch(content: bytes, where: str) -> dict[str, Any]:
    """Return the dict that a pickled batch holds; as `read_pickled`, whose arguments and errors these are."""
    found = read_pickled(content, where)
    if not isinstance(found, dict):
        raise _Machine(where).refuse(f"{type(found).__name__.lstrip('_')} as its content")
    return found


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _value(value: Any, depth: int = 0) -> Any:
    """Return a value without our own marks; what is nested deeply is left out."""
    if isinstance(value, _Block):
        return value.values
    if depth > 3:
        return None
    if isinstance(value, dict):
        plain = {_text(key): item for key, item in value.items() if not isinstance(key, Odd)}
        return {key: _value(item, depth + 1) for key, item in plain.items()}
    if isinstance(value, list):
        return [_text(item) if isinstance(item, bytes | str) else _value(item, depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(_value(item, depth + 1) for item in value)
    return _text(value) if isinstance(value, bytes) else value
