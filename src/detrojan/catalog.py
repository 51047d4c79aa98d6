"""Finds the methods by looking into the rooms: no list to keep up to date."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache

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


@cache
def rooms() -> tuple[str, ...]:
    """Return the rooms that this installation has."""
    return tuple(room for room in VERBS if importlib.util.find_spec(f"detrojan.{room}"))


@cache
def _methods(room: str) -> dict[str, type[Method]]:
    if room not in rooms():
        raise OptionError(f"expected a room out of {', '.join(rooms())}, got {room!r}")
    package = importlib.import_module(f"detrojan.{room}")
    found: dict[str, type[Method]] = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for member in vars(module).values():
            if not (inspect.isclass(member) and issubclass(member, Method)):
                continue
            if member.__module__ != module.__name__ or inspect.isabstract(member) or not member.name:
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
