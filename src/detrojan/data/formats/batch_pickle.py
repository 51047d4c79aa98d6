"""Reads CIFAR's pickled batches without unpickling: a parser for exactly their structure.

`parsing.pickles` follows the instructions; what follows here knows the few names and calls that build
plain NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detrojan.data.source import Array, check_bytes
from detrojan.errors import DataError, UnsafeFileError
from detrojan.parsing.pickles import Odd, PickleMachine

#: no batch is longer; the whole file is looked at in memory
MOST_BYTES = 1 << 28

#: the only names that such a file needs; each stands for a step of ours
_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_WAY_OUT = (
    "use the binary version of the data set (.bin files), or save the images and labels with numpy.savez"
)


@dataclass
class _Name:
    what: str


@dataclass
class _Kind:
    """A dtype: single bytes, the only one that is known here."""


@dataclass
class _Block:
    """An array as it is being rebuilt."""

    values: Array | None = None


class _Machine(PickleMachine):
    """Knows the names and calls of a batch."""

    def refuse(self, what: str) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self.where} is a pickle, of which only the structure of CIFAR's batches is read, without "
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
            case _Name("dtype"), ("u1" | "|u1" | b"u1", *_):
                return _Kind()
            case _Name("encode"), (str(text), "latin1" | "latin-1"):
                return text.encode("latin-1")
        raise self.refuse(f"a call with {arguments!r:.60}")

    def built(self, target: Any, state: Any) -> Any:
        match target, state:
            case _Kind(), tuple():
                return target
            case _Block(), (_, tuple(shape), _Kind(), False | 0, str() | bytes() as raw):
                content = raw if isinstance(raw, bytes) else raw.encode("latin-1")
                if not all(isinstance(side, int) and side >= 0 for side in shape):
                    raise self.refuse(f"an array of shape {shape!r:.60}")
                if check_bytes(shape, 1, f"{self.where}: array") != len(content):
                    raise DataError(f"{self.where}: expected {shape} bytes in an array, got {len(content)}")
                target.values = np.frombuffer(content, np.uint8).reshape(shape)
                return target
        raise self.refuse(f"a state of {type(target).__name__.lstrip('_')}")


def read_batch(content: bytes, where: str) -> dict[str, Any]:
    """Return the dict that a pickled batch holds: texts, numbers, lists and uint8 arrays.

    Args:
        content: the whole file.
        where: the file, for error texts.

    Raises:
        UnsafeFileError: the pickle holds anything that such a batch does not need.
        DataError: it is damaged, or too long.

    """
    if len(content) > MOST_BYTES:
        raise DataError(f"{where}: expected a batch of at most {MOST_BYTES:,} bytes, got {len(content):,}")
    machine = _Machine(where)
    try:
        found = machine.load(content)
        if not isinstance(found, dict):
            raise machine.refuse(f"{type(found).__name__} as its content")
        return {_text(key): _value(value) for key, value in found.items() if not isinstance(key, Odd)}
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: the file is truncated or damaged: {error}") from error


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _value(value: Any) -> Any:
    if isinstance(value, _Block):
        return value.values
    if isinstance(value, list):
        return [_text(item) if isinstance(item, bytes | str) else item for item in value]
    return _text(value) if isinstance(value, bytes) else value
