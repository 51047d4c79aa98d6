"""Makes methods out of their name and texts such as "steps=100", typed as the method's dataclass says."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

from detrojan import catalog
from detrojan.errors import OptionError
from detrojan.method import Method

T = typing.TypeVar("T")
_YES, _NO = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def method_named(room: str, name: str, settings: Sequence[str] = ()) -> Method:
    """Return the method of a room with its hyper-parameters set.

    Raises:
        OptionError: no such method or hyper-parameter, or a value that does not fit.

    """
    return methods_named(room, [name], settings)[0]


def methods_named(room: str, names: Sequence[str], settings: Sequence[str] = ()) -> list[Method]:
    """Return several methods; "name=value" goes to all that have it, "method.name=value" to one.

    Raises:
        OptionError: no such method or hyper-parameter, or a value that does not fit.

    """
    kinds = [catalog.find(room, name) for name in names]
    chosen: list[dict[str, Any]] = [{} for _ in kinds]
    for setting in settings:
        name, value = _halves(setting)
        owner, _, field = name.rpartition(".")
        places = [
            place
            for place, kind in enumerate(kinds)
            if owner in ("", kind.name) and field in {f.name for f in dataclasses.fields(kind)}
        ]
        if not places:
            known = sorted({f"{f.name}" for kind in kinds for f in dataclasses.fields(kind)})
            raise OptionError(f"expected a hyper-parameter out of {', '.join(known)}, got {name!r}")
        for place in places:
            chosen[place][field] = typed(kinds[place], field, value)
    return [kind(**values) for kind, values in zip(kinds, chosen, strict=True)]


def changed(instance: T, settings: Sequence[str]) -> T:
    """Return a dataclass's instance with fields set by "name=value".

    Raises:
        OptionError: no such field, or a value that does not fit.

    """
    assert dataclasses.is_dataclass(instance)
    known = [field.name for field in dataclasses.fields(instance)]
    values: dict[str, Any] = {}
    for setting in settings:
        name, value = _halves(setting)
        if name not in known:
            raise OptionError(f"expected one of {', '.join(known)}, got {name!r}")
        values[name] = typed(type(instance), name, value)
    return dataclasses.replace(instance, **values)  # type: ignore[type-var,unused-ignore]


def _halves(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals or not name.strip():
        raise OptionError(f"expected NAME=VALUE, got {setting!r}")
    return name.strip(), value.strip()


def typed(kind: type[Any], name: str, text: str) -> Any:
    """Return text as a value of the type that a dataclass's field has.

    Raises:
        OptionError: it is not of that type, no finite number, or the type cannot be written as text.

    """
    hint = typing.get_type_hints(kind)[name]
    try:
        value = _value(hint, text)
    except ValueError as error:
        raise OptionError(f"expected {name} as {type_name(hint)}, got {text!r}") from error
    except TypeError as error:
        raise OptionError(f"{name} cannot be set as text: it is {type_name(hint)}") from error
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise OptionError(f"expected {name} as a finite number, got {text!r}")
    return value


def type_name(hint: Any) -> str:
    """Return a type as a reader writes it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(arg) for arg in args)
    if origin is tuple:
        return f"{type_name(args[0])}, ..." if args else "a list"
    names = {int: "a whole number", float: "a number", str: "text", bool: "yes or no", type(None): "none"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _value(hint: Any, text: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        for choice in args:
            if str(choice) == text:
                return choice
        raise ValueError(text)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text.lower() in {"", "none"}:
            return None
        return _first(args, text)
    if origin is tuple:
        return _tuple(args, text)
    if hint is bool:
        if text.lower() not in _YES | _NO:
            raise ValueError(text)
        return text.lower() in _YES
    if hint in (int, float, str):
        return hint(text)
    raise TypeError(hint)


def _first(kinds: Sequence[Any], text: str) -> Any:
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _value(kind, text)
        except ValueError:
            continue
    raise ValueError(text)


def _tuple(kinds: Sequence[Any], text: str) -> tuple[Any, ...]:
    pieces = [piece.strip() for piece in text.split(",")] if text else []
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], piece) for piece in pieces)
    if len(kinds) != len(pieces):
        raise ValueError(text)
    return tuple(_value(kind, piece) for kind, piece in zip(kinds, pieces, strict=True))
