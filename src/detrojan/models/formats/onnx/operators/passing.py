"""Operators that pass on what they are given, or name its shape and type."""

from __future__ import annotations

import torch

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.modules import Apply
from detrojan.models.formats.onnx.registry import operator
from detrojan.models.formats.onnx.values import Data, Known, Value, known

#: ONNX's types of elements by their numbers, and what we compute with: all real numbers are float32
_TYPES = {
    **dict.fromkeys((1, 10, 11, 16), torch.float32),
    **dict.fromkeys((4, 7, 12, 13), torch.int64),
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    9: torch.bool,
}


@operator("Identity", "Dropout")
def _identity(call: Call) -> Value:
    if isinstance(call.given(2), Known):
        mode = call.constant(2, "training_mode")
        if mode is not None and bool(mode):
            raise ModelError("expected a dropout that is off, as in use, got one that is on")
    return call.value(0)


@operator("Cast", "CastLike")
def _cast(call: Call) -> Value:
    found = call.value(0)
    if call.node.op == "CastLike":
        like = call.value(1)
        wanted = (like.likes if isinstance(like, Data) else like.sides)[0].dtype
    else:
        number = call.attribute("to", 0)
        if number not in _TYPES:
            raise ModelError(f"expected a cast to numbers, got type {number}")
        wanted = _TYPES[number]
    now = (found.likes if isinstance(found, Data) else found.sides)[0].dtype
    if now == wanted:
        return found
    if isinstance(found, Data) and now.is_floating_point and not wanted.is_floating_point:
        raise ModelError("expected real numbers throughout, got them rounded: no gradient passes that")
    return call.add(Apply(torch.Tensor.to, dtype=wanted), found)


@operator("Shape")
def _shape(call: Call) -> Value:
    found = call.value(0)
    sides = found.likes if isinstance(found, Data) else found.sides
    start, end = call.attribute("start", 0), call.attribute("end", sides[0].ndim)
    first, second = (torch.tensor(list(side.shape), dtype=torch.int64)[start:end] for side in sides)
    return Known((first, second))


@operator("Size")
def _size(call: Call) -> Value:
    found = call.value(0)
    sides = found.likes if isinstance(found, Data) else found.sides
    first, second = (torch.tensor(side.numel()) for side in sides)
    return Known((first, second))


@operator("Range")
def _range(call: Call) -> Value:
    start, end, step = (call.constant(place, "a range") for place in range(3))
    if start is None or end is None or step is None or not float(step):
        raise ModelError("expected a range with a start, an end and a step")
    if abs((float(end) - float(start)) / float(step)) > 1 << 24:
        raise ModelError("expected a shorter range")
    return known(torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype))
