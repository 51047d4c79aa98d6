"""Reads CIFAR's pickled batches without unpickling: a parser for exactly their structure.

The pickle's instructions are listed, not run. A small machine follows those few that build texts,
numbers, lists, dicts and plain NumPy arrays; a name outside a fixed list, or any other instruction,
ends the reading. Nothing is imported and nothing called, whatever the file says.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detrojan.data.source import Array, check_bytes
from detrojan.errors import DataError, UnsafeFileError

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
_NOTHING = {"PROTO", "FRAME", "STOP"}
_EMPTY: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
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


@dataclass
class _Machine:
    """Follows the instructions that build plain values."""

    where: str
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def refuse(self, what: str) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self.where} is a pickle, of which only the structure of CIFAR's batches is read, without "
            f"running it; got {what}; {_WAY_OUT}"
        )

    def follow(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _NOTHING:
            return
        for follow in (self._value, self._memory, self._collection, self._rebuilding):
            if follow(name, argument):
                return
        raise self.refuse(f"the instruction {name}")

    def _value(self, name: str, argument: Any) -> bool:
        if name == "MARK":
            self.stack.append(_MARK)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _VALUES:
            self.stack.append(argument)
        else:
            return False
        return True

    def _memory(self, name: str, argument: Any) -> bool:
        if name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        else:
            return False
        return True

    def _collection(self, name: str, argument: Any) -> bool:
        stack = self.stack
        if name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in {"LIST", "TUPLE", "DICT"}:
            values = self._marked()
            made: Any = tuple(values) if name == "TUPLE" else values
            stack.append(_pairs(values) if name == "DICT" else made)
        elif name in {"APPEND", "APPENDS"}:
            values = [stack.pop()] if name == "APPEND" else self._marked()
            stack[-1].extend(values)
        elif name in {"SETITEM", "SETITEMS"}:
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            stack[-1].update(_pairs(values))
        else:
            return False
        return True

    def _rebuilding(self, name: str, argument: Any) -> bool:
        stack = self.stack
        if name == "GLOBAL":
            stack.append(self._named(argument))
        elif name == "STACK_GLOBAL":
            last, first = stack.pop(), stack.pop()
            stack.append(self._named(f"{first} {last}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._reduced(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self._build(stack[-1], state)
        else:
            return False
        return True

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        place = max(place for place, item in enumerate(self.stack) if item is _MARK)
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def _named(self, text: str) -> _Name:
        if text not in _NAMES:
            raise self.refuse(f"the name {text.replace(' ', '.')!r:.80}")
        return _Name(_NAMES[text])

    def _reduced(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case _Name("array"), (_Name("ndarray"), (0,), _):
                return _Block()
            case _Name("dtype"), ("u1" | "|u1" | b"u1", *_):
                return _Kind()
            case _Name("encode"), (str(text), "latin1" | "latin-1"):
                return text.encode("latin-1")
        raise self.refuse(f"a call with {arguments!r:.60}")

    def _build(self, target: Any, state: Any) -> None:
        match target, state:
            case _Kind(), tuple():
                return
            case _Block(), (_, tuple(shape), _Kind(), False | 0, str() | bytes() as raw):
                content = raw if isinstance(raw, bytes) else raw.encode("latin-1")
                if not all(isinstance(side, int) and side >= 0 for side in shape):
                    raise self.refuse(f"an array of shape {shape!r:.60}")
                if check_bytes(shape, 1, f"{self.where}: array") != len(content):
                    raise DataError(f"{self.where}: expected {shape} bytes in an array, got {len(content)}")
                target.values = np.frombuffer(content, np.uint8).reshape(shape)
                return
        raise self.refuse(f"a state of {type(target).__name__.lstrip('_')}")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


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
        for operation, argument, _ in pickletools.genops(content):
            machine.follow(operation.name, argument)
        found = machine.stack.pop()
        if machine.stack or not isinstance(found, dict):
            raise machine.refuse(f"{type(found).__name__} as its content")
        return {_text(key): _value(value) for key, value in found.items()}
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(f"{where}: the file is truncated or damaged: {error}") from error


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _value(value: Any) -> Any:
    if isinstance(value, _Block):
        return value.values
    if isinstance(value, list):
        return [_text(item) if isinstance(item, bytes | str) else item for item in value]
    return _text(value) if isinstance(value, bytes) else value
