"""Finds the methods by looking into the rooms: no list to keep up to date."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from typing import TypeVar

from detrojan.errors import OptionError
from detrojan.method import Method

#: the rooms in the order in which their methods are listed, each with the verbs its methods may have
VERBS: dict[str, tuple[str, ...]] = {
    "attacks": ("poison", "train"),
    "scans": ("scan",),
    "repairs": ("repair",),
    "guards": ("calibrate",),
    "trainers": ("train",),
    "filters": ("suspect",),
}


T = TypeVar("T")


def classes(package: str, base: type[T]) -> list[type[T]]:
    """Return the concrete subclasses of `base` that the files of a package define, in the files' order.

    The files are imported. A package in it counts as one file: what its own `__init__` imports out of
    its modules is found.

    Args:
        package: its dotted name.
        base: what they are subclasses of.

    """
    room = importlib.import_module(package)
    found: list[type[T]] = []
    for info in pkgutil.iter_modules(room.__path__, f"{package}."):
        for member in vars(importlib.import_module(info.name)).values():
            if not (inspect.isclass(member) and issubclass(member, base)) or inspect.isabstract(member):
                continue
            if member.__module__ == info.name or member.__module__.startswith(f"{info.name}."):
                found.append(member)
    return found


@cache
def rooms() -> tuple[str, ...]:
    """Return the rooms that this installation has."""
    return tuple(room for room in VERBS if importlib.util.find_spec(f"detrojan.{room}"))


@cache
def _methods(room: str) -> dict[str, type[Method]]:
    if room not in rooms():
        raise OptionError(f"expected a room out of {', '.join(rooms())}, got {room!r}")
    found: dict[str, type[Method]] = {}
    for member in classes(f"detrojan.{room}", Method):
        if not member.name:
            continue
        other = found.setdefault(member.name, member)
        if other is not member:
            # Told at once to whoever writes the second one; users never see it.
            raise TypeError(f"{member} and {other} are both called {member.name!r}")
    return dict(sorted(found.items()))


def methods(room: str) -> dict[str, type[Method]]:
    """Return the methods of a room by name, in alphabetical order.

    A method is a concrete subclass of `Method` that sets `name`, in a file of the room; nothing has
    to be registered. The room's files are imported on the first call.

    Args:
        room: one out of `rooms()`, e.g. "scans".

    Raises:
        OptionError: no such room.

    """
    return dict(_methods(room))


def verb(room: str, method: type[Method]) -> str:
    """Return the verb of a method: what it is called to do its work.

    Args:
        room: where the method lives, e.g. "scans".
        method: one of its methods.

    """
    return next(verb for verb in VERBS[room] if hasattr(method, verb))


def find(room: str, name: str) -> type[Method]:
    """Return the method of a room that is called `name`.

    Raises:
        OptionError: there is none; the message lists those there are.

    """
    known = _methods(room)
    if name not in known:
        raise OptionError(f"expected one of the {room} {', '.join(known) or '(none yet)'}, got {name!r}")
    return known[name]
