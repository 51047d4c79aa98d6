"""Operators that give values another shape, or take parts of them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.modules import Apply, Joined, Parts, Picked, Shaped, Sliced
from detrojan.models.formats.onnx.operators.layers import permuted, reshaped
from detrojan.models.formats.onnx.registry import operator
from detrojan.models.formats.onnx.values import Data, Known, PerImage, Size, Value, plain

_END = 1 << 31


def _sides(value: Value) -> tuple[torch.Tensor, torch.Tensor]:
    return value.likes if isinstance(value, Data) else value.sides


def _shape_of(value: Value) -> list[Size]:
    """Return the sizes of a value, those that grow with the number of images as such."""
    first, second = _sides(value)
    found: list[Size] = []
    for one, other in zip(first.shape, second.shape, strict=True):
        found.append(one if one == other else PerImage(one // 2))
    return found


def _formed(call: Call, value: Value, shape: list[Size]) -> Value:
    """Return a value in another shape."""
    held = value.constant if isinstance(value, Known) else None
    if isinstance(value, Known) and held is not None and not any(isinstance(one, PerImage) for one in shape):
        return reshaped(value, tuple(held.reshape(plain(shape, "a shape")).shape))
    open_sizes = [place for place, one in enumerate(shape) if one == -1 or isinstance(one, PerImage)]
    if len(open_sizes) == 1:
        shape = [-1 if place in open_sizes else one for place, one in enumerate(shape)]
    return call.add(Shaped("reshape", shape), value, call.builder.images)


@operator("Reshape")
def _reshape(call: Call) -> Value:
    value = call.value(0)
    stated = call.attribute("shape") if call.opset < 5 else list(call.sizes(1, "a shape"))
    now, shape = _shape_of(value), list(stated or [])
    if not call.attribute("allowzero", 0):
        shape = [now[place] if one == 0 else one for place, one in enumerate(shape)]
    first = now[0] if now else 1
    if isinstance(first, PerImage) and shape and shape[0] == call.builder.graph.batch == 1:
        # the graph was written for one image; each of several is reshaped like it
        rest = [one for one in shape[1:] if isinstance(one, int)]
        size = torch.Size(_sides(value)[0].shape[1:]).numel() * first.times
        counted = torch.Size(one for one in rest if one != -1).numel()
        if len(rest) == len(shape) - 1 and (counted == size or (-1 in rest and size % counted == 0)):
            shape[0] = first if first.times == 1 else PerImage(1)
            if counted != size:
                shape = [size // counted if one == -1 else one for one in shape]
    return _formed(call, value, shape)


@operator("Flatten")
def _flatten(call: Call) -> Value:
    value, rank = call.value(0), call.rank()
    axis = call.attribute("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if axis == 1 and isinstance(value, Data):
        return call.add(nn.Flatten(), value)
    before = _shape_of(value)[:axis]
    if any(isinstance(one, PerImage) for one in before[1:]):
        raise ModelError("expected the images along the first axis")
    size: Size = 1
    for one in before:
        size = PerImage(one.times) if isinstance(one, PerImage) else _times(size, one)
    return _formed(call, value, [size, -1])


def _times(size: Size, number: int) -> Size:
    return PerImage(size.times * number) if isinstance(size, PerImage) else size * number


@operator("Squeeze", "Unsqueeze")
def _squeeze(call: Call) -> Value:
    value, axes = call.value(0), call.numbers("axes", 1)
    shape = _shape_of(value)
    if call.node.op == "Squeeze":
        if axes is None:
            drop = {place for place, one in enumerate(shape) if one == 1}
        else:
            drop = {call.positive(axis, len(shape)) for axis in axes}
        if any(shape[place] != 1 for place in drop):
            raise ModelError(f"expected axes of length 1 to remove, got {call.shape()}")
        shape = [one for place, one in enumerate(shape) if place not in drop]
    else:
        rank = len(shape) + len(axes or ())
        for axis in sorted(call.positive(axis, rank) for axis in axes or ()):
            shape.insert(axis, 1)
    if isinstance(value, Known) and value.constant is None:
        module = Shaped("reshape", shape)
        return call.add(module, value, call.builder.images)
    return _formed(call, value, shape)


@operator("Transpose")
def _transpose(call: Call) -> Value:
    value, rank = call.value(0), call.rank()
    order = tuple(call.attribute("perm", list(range(rank))[::-1]))
    if sorted(order) != list(range(rank)):
        raise ModelError(f"expected an order of {rank} axes, got {order}")
    if isinstance(value, Known):
        return permuted(value, order)
    return call.add(Apply(torch.permute, dims=order), value)


@operator("Concat")
def _concat(call: Call) -> Value:
    values = [call.value(place) for place in range(len(call.inputs))]
    axis = call.axis(1)
    grown = any(isinstance(size, PerImage) for value in values for size in _shape_of(value)[:1])
    if axis > 0 and grown and call.builder.graph.batch == 1:
        values = [_for_each_image(call, value) for value in values]
    return call.add(Joined(axis), *values)


def _for_each_image(call: Call, value: Value) -> Value:
    """Return a value that the graph has once, once for each image."""
    shape = _shape_of(value)
    if shape[0] != 1:
        return value
    return call.add(Shaped("expand", [PerImage(1), *shape[1:]]), value, call.builder.images)


@operator("Expand")
def _expand(call: Call) -> Value:
    value, wanted = call.value(0), list(call.sizes(1, "a shape"))
    now = _shape_of(value)
    rank = max(len(now), len(wanted))
    now = [*([1] * (rank - len(now))), *now]
    wanted = [*([1] * (rank - len(wanted))), *wanted]
    shape = [old if new == 1 else new for old, new in zip(now, wanted, strict=True)]
    if shape == now and rank == call.rank():
        return value
    return call.add(Shaped("expand", shape), value, call.builder.images)


@operator("Tile")
def _tile(call: Call) -> Value:
    times = call.sizes(1, "repeats")
    return call.add(Shaped("repeat", times), call.value(0), call.builder.images)


@operator("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    found = call.value(0)
    if not isinstance(found, Known):
        raise ModelError("expected a shape that does not depend on what is in the images")
    number = call.node.attributes.get("value")
    fill = torch.zeros(1) if number is None else torch.from_numpy(number.reshape(-1)[:1].copy())
    made = []
    for side in found.sides:
        shape = [int(one) for one in side.reshape(-1)]
        if torch.Size(shape).numel() > 1 << 26:
            raise ModelError(f"expected fewer numbers, got {shape}")
        made.append(fill.expand(1).reshape(()).repeat(shape) if shape else fill.reshape(()))
    return Known((made[0], made[1]))


@operator("Slice")
def _slice(call: Call) -> Value:
    value, rank = call.value(0), call.rank()
    if call.opset < 10:
        starts, ends = call.attribute("starts", []), call.attribute("ends", [])
        axes, steps = call.attribute("axes"), None
    else:
        starts, ends = list(call.sizes(1, "starts")), list(call.sizes(2, "ends"))
        axes, steps = call.numbers("axes", 3), call.numbers("steps", 4)
    axes = range(len(starts)) if axes is None else [call.positive(axis, rank) for axis in axes]
    steps = steps or (1,) * len(axes)
    cuts: dict[int, slice] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = _shape_of(value)[axis]
        whole = start == 0 and step == 1 and (end == size or (isinstance(end, int) and end >= _END - 1))
        if whole:
            continue
        if (
            isinstance(start, PerImage)
            or isinstance(end, PerImage)
            or (step < 0 and isinstance(size, PerImage))
        ):
            raise ModelError("expected a part that does not depend on the number of images")
        if step > 0:
            cuts[axis] = slice(max(start, -_END), min(end, _END), step)
        else:
            value = _backwards(call, value, axis, slice(start, None if end < -_END // 2 else end, step))
    return call.add(Sliced(cuts), value) if cuts else value


def _backwards(call: Call, value: Value, axis: int, cut: slice) -> Value:
    numbers = torch.tensor(list(range(_sides(value)[0].shape[axis]))[cut], dtype=torch.int64)
    return call.add(Picked(numbers, axis), value)


@operator("Gather")
def _gather(call: Call) -> Value:
    value, axis = call.value(0), call.axis(0)
    numbers = call.constant(1, "numbers of entries")
    size = _shape_of(value)[axis]
    if numbers is None or numbers.is_floating_point():
        raise ModelError("expected whole numbers of entries")
    if isinstance(size, PerImage) and bool((numbers < 0).any()):
        raise ModelError("expected a part that does not depend on the number of images")
    length = _sides(value)[0].shape[axis]
    numbers = torch.where(numbers < 0, numbers + length, numbers).long()
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < length:
        raise ModelError(f"expected numbers of entries below {length}, got {int(numbers.max())}")
    return call.add(Picked(numbers, axis), value)


@operator("Split")
def _split(call: Call) -> Value | list[Value]:
    axis, count = call.axis(0), len(call.node.outputs)
    lengths = call.numbers("split", 1)
    if lengths is None:
        size = _shape_of(call.value(0))[axis]
        if isinstance(size, PerImage):
            raise ModelError("expected a part that does not depend on the number of images")
        part = -(-size // count)
        lengths = tuple(min(part, size - start) for start in range(0, size, part))
    if len(lengths) != count:
        raise ModelError(f"expected {count} parts, got {len(lengths)}")
    if count == 1:
        return call.value(0)
    return call.add_parts(Parts(lengths, axis), count, call.value(0))


@operator("Pad")
def _pad(call: Call) -> Value:
    mode = call.attribute("mode", "constant")
    pads = call.numbers("pads", 1) or ()
    if call.opset < 11:
        fill = call.attribute("value", 0.0)
    else:
        held = call.constant(2, "the value")
        fill = 0.0 if held is None else float(held)
    axes = call.numbers("axes", 3) if call.opset >= 18 else None
    rank = call.rank()
    places = [call.positive(axis, rank) for axis in axes] if axes is not None else list(range(rank))
    sides = [0] * 2 * rank
    for place, axis in enumerate(places):
        sides[2 * (rank - 1 - axis)] = pads[place]
        sides[2 * (rank - 1 - axis) + 1] = pads[place + len(places)]
    while len(sides) > 2 and not any(sides[-2:]):
        sides = sides[:-2]
    if not any(sides):
        return call.value(0)
    kinds = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in kinds:
        raise ModelError(f"expected a padding out of {', '.join(kinds)}, got {mode!r}")
    more = {"value": fill} if mode == "constant" else {}
    return call.add(Apply(functional.pad, pad=sides, mode=kinds[mode], **more), call.value(0))


@operator("Resize", "Upsample")
def _resize(call: Call) -> Value:
    shape = call.shape()
    if len(shape) != 4:
        raise ModelError(f"expected maps (N, C, H, W), got {shape}")
    mode, place = (
        call.attribute("mode", "nearest"),
        call.attribute("coordinate_transformation_mode", "half_pixel"),
    )
    if call.node.op == "Upsample" or call.opset < 11:
        scales, wanted, place = _scales(call), None, "asymmetric"
    else:
        held = call.constant(2, "scales")
        scales = None if held is None or not held.numel() else tuple(held.tolist())
        wanted = None if call.given(3) is None else call.sizes(3, "sizes")
    if (
        call.attribute("axes") is not None
        or call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise ModelError("expected all axes to be resized as they are stated")
    if wanted is not None:
        size = plain(wanted[2:], "a size")
    elif scales is not None and len(scales) == 4 and scales[:2] == (1.0, 1.0):
        size = tuple(int(one * scale) for one, scale in zip(shape[2:], scales[2:], strict=True))
    else:
        raise ModelError("expected sizes or scales of height and width")
    whole = all(new % old == 0 for new, old in zip(size, shape[2:], strict=True))
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    if mode == "nearest" and (
        (place == "asymmetric" and (rounding == "floor" or whole)) or (whole and place == "half_pixel")
    ):
        module = Apply(functional.interpolate, size=size, mode="nearest")
    elif mode in {"linear", "cubic"} and place in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        smooth = {"linear": "bilinear", "cubic": "bicubic"}[mode]
        if mode == "cubic" and call.attribute("cubic_coeff_a", -0.75) != -0.75:
            raise ModelError("expected cubic_coeff_a -0.75")
        soft = bool(call.attribute("antialias", 0))
        corners = place == "align_corners"
        module = Apply(functional.interpolate, size=size, mode=smooth, align_corners=corners, antialias=soft)
    else:
        raise ModelError(
            f"expected nearest, linear or cubic in half pixels, got {mode} in {place}, {rounding}"
        )
    return call.add(module, call.value(0))


def _scales(call: Call) -> tuple[float, ...] | None:
    found = call.attribute("scales")
    if found is None:
        held = call.constant(1, "scales")
        found = None if held is None else held.tolist()
    return None if found is None else tuple(float(one) for one in found)
