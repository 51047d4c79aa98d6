"""Finds out how a graph takes images: which axis is which, and how large they are."""

from __future__ import annotations

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.check import Entry
from detrojan.models.formats.onnx.description import Description

_FIRST, _LAST = (0, 1, 2, 3), (0, 2, 3, 1)
_LONGEST, _MOST_CHANNELS = 4096, 4


def entries(
    graph: Description, given: tuple[int, int, int] | None, where: str
) -> list[tuple[tuple[int, int, int], Entry]]:
    """Return the input shapes (C, H, W) that a graph may take, and how; the likeliest first.

    Args:
        graph: the graph.
        given: what the caller says.
        where: the file, for error texts.

    Raises:
        ModelError: not images, another shape than the caller says, or one that is open.

    """
    stated = graph.input_shape
    if stated is None:
        stated = (None,) * 4
    if len(stated) == 4:
        tried: list[tuple[tuple[int, ...], tuple[int, ...]]] = [(order, ()) for order in (_FIRST, _LAST)]
        if _last_axis(graph, stated):
            tried.reverse()
    elif len(stated) == 3:  # grey images without an axis for their one channel
        tried = [(_FIRST, (1,))]
    else:
        raise ModelError(
            f"{where}: expected images as input (N, C, H, W) or (N, H, W, C), got {_shown(stated)}"
        )
    found = []
    for order, drop in tried:
        shape = _shape(stated, order, drop, given)
        if shape is not None:
            found.append((shape, Entry(order=order, drop=drop, batch=graph.batch)))
    if not found and given is not None:
        raise ModelError(f"{where}: expected input {_shown(stated)} as the file says, got {given}")
    if not found:
        raise ModelError(
            f"{where}: expected an input of known size, got {_shown(stated)}: "
            f"state it with --input-shape {_asked(graph, stated)}, as the code that uses the network has it"
        )
    return found


def _asked(graph: Description, stated: tuple[int | None, ...]) -> str:
    """Return the shape that is to be stated, e.g. 3x48xW, with letters for what the file leaves open."""
    if len(stated) == 3:
        channels, height, width = 1, stated[1], stated[2]
    elif _last_axis(graph, stated):
        height, width, channels = stated[1], stated[2], stated[3] or 3
    else:
        channels, height, width = stated[1] or 3, stated[2], stated[3]
    return f"{channels}x{height or 'H'}x{width or 'W'}"


def _last_axis(graph: Description, stated: tuple[int | None, ...]) -> bool:
    """Tell whether the channels stand last."""
    if stated[1] in {1, 3} or stated[3] in {1, 3}:
        return stated[1] not in {1, 3}
    first = next((node for node in graph.nodes if graph.input in node.inputs), None)
    return first is not None and first.op == "Transpose" and first.attributes.get("perm") == [0, 3, 1, 2]


def _shape(
    stated: tuple[int | None, ...],
    order: tuple[int, ...],
    drop: tuple[int, ...],
    given: tuple[int, int, int] | None,
) -> tuple[int, int, int] | None:
    """Return (C, H, W) for an order of axes; None where that does not fit or leaves a size open."""
    sizes: list[int | None] = [None, *(given or (None, None, None))]
    rest = list(stated)
    for place, axis in enumerate(order):
        said = 1 if place in drop else rest.pop(0)
        if axis == 0 or said is None:
            continue
        if given is not None and sizes[axis] != said:
            return None
        sizes[axis] = said
    channels, height, width = sizes[1:]
    if channels is None or height is None or width is None:
        return None
    if given is None and not (channels <= _MOST_CHANNELS and max(height, width) <= _LONGEST):
        return None
    return channels, height, width


def _shown(stated: tuple[int | None, ...]) -> str:
    return f"({', '.join('open' if size is None else str(size) for size in stated)})"
