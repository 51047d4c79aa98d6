"""Looks at the outermost fields of a protobuf file, to tell what it is without its library."""

from __future__ import annotations

from pathlib import Path

#: fields that are looked at, at most
_MOST = 64


def outer_fields(path: Path) -> dict[int, int] | None:
    """Return the numbers of a file's outermost fields, each with its kind on the wire.

    Returns:
        Number to kind (0 a whole number, 1 and 5 fixed, 2 bytes) of the first fields; None where the file
        is no protobuf, or cannot be read.

    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            found: dict[int, int] = {}
            place = 0
            for _ in range(_MOST):
                if place == size:
                    break
                file.seek(place)
                head = file.read(20)
                key, used = _varint(head, 0)
                number, kind = key >> 3, key & 7
                if kind == 0:
                    _, used = _varint(head, used)
                elif kind == 2:
                    length, used = _varint(head, used)
                    used += length
                elif kind in {1, 5}:
                    used += 8 if kind == 1 else 4
                else:
                    return None
                place += used
                if number == 0 or place > size:
                    return None
                found[number] = kind
            return found
    except (OSError, IndexError):
        return None


def _varint(head: bytes, place: int) -> tuple[int, int]:
    """Return a whole number of variable length, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = head[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise IndexError(place)
