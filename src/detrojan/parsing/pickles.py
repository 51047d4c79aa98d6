"""Reads pickles without unpickling: a machine that follows the instructions that build plain values.

The instructions are listed, not run. A name outside a fixed list, or an instruction that plain values do
not need, ends the reading. Nothing is imported and nothing called, whatever the file says.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from typing import IO, Any

from detrojan.errors import UnsafeFileError

_NOTHING = {"PROTO", "FRAME", "STOP"}
_EMPTY: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
}  # fmt: skip
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class Odd:
    """A value that nobody needs, or a key that would be slow to compare."""

    def __init__(self, what: str = "") -> None:
        self.what = what


class PickleMachine(ABC):
    """Follows the instructions that build plain values; a subclass knows the names and the calls.

    Args:
        where: the file, for error texts.

    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    @abstractmethod
    def refuse(self, what: str) -> UnsafeFileError:
        """Return the error for what is not followed."""

    @abstractmethod
    def named(self, module: str, name: str) -> Any:
        """Return what stands for a name; refuse those that are not known."""

    @abstractmethod
    def reduced(self, function: Any, arguments: Any) -> Any:
        """Return what stands for the result of a call."""

    @abstractmethod
    def built(self, target: Any, state: Any) -> Any:
        """Return what stands for an object that is given a state."""

    def persistent(self, identity: Any) -> Any:
        """Return what stands for an object that lies beside the pickle."""
        raise self.refuse("an object outside of the pickle")

    def load(self, source: bytes | IO[bytes]) -> Any:
        """Follow one pickle to its end and return its value.

        Raises:
            UnsafeFileError: it holds what is not followed.
            ValueError: it is damaged; IndexError, KeyError, TypeError and others too.

        """
        self.stack, self.memo = [], {}
        for operation, argument, _ in pickletools.genops(source):
            self._follow(operation.name, argument)
        found = self.stack.pop()
        if self.stack:
            raise ValueError("the pickle ends with more than one value")
        return found

    def _follow(self, name: str, argument: Any) -> None:
        if name in _NOTHING:
            return
        for follow in (self._value, self._memory, self._collection, self._call):
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
            if len(stack) < count:
                raise IndexError("the pickle takes more values than it has")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in {"LIST", "TUPLE", "DICT"}:
            values = self._marked()
            made: Any = tuple(values) if name == "TUPLE" else values
            stack.append(_pairs(values) if name == "DICT" else made)
        elif name in {"APPEND", "APPENDS"}:
            values = [stack.pop()] if name == "APPEND" else self._marked()
            self._last(list).extend(values)
        elif name in {"SETITEM", "SETITEMS"}:
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            self._last(dict).update(_pairs(values))
        elif name == "ADDITEMS":
            self._last(set).update(_plain_key(item) for item in self._marked())
        else:
            return False
        return True

    def _last(self, kind: type[Any]) -> Any:
        if type(self.stack[-1]) is not kind:
            raise self.refuse(
                f"values for {type(self.stack[-1]).__name__.lstrip('_')}, not for a {kind.__name__}"
            )
        return self.stack[-1]

    def _call(self, name: str, argument: Any) -> bool:
        stack = self.stack
        if name == "GLOBAL":
            module, _, what = argument.partition(" ")
            stack.append(self.named(module, what))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(self.named(str(module), str(what)))
        elif name in {"REDUCE", "NEWOBJ"}:
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.reduced(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1] = self.built(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self.persistent(stack.pop()))
        else:
            return False
        return True

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("the pickle has no mark where it needs one")
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return {_plain_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _plain_key(key: Any) -> Any:
    """Return a key that is quick to compare; nested tuples can take for ever."""
    return key if key is None or type(key) in {str, int, bool, float, bytes} else Odd()
