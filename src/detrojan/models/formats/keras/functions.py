"""What each operation between layers computes, by its name, in Keras's own order of axes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from detrojan.errors import ModelError

Tensor = torch.Tensor


def _dims(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis


def _reduce(how: str) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
        if axis is None:
            raise ModelError(f"expected the axes of {how}, got none")
        value: Tensor = getattr(x, how)(_dims(axis), keepdim=bool(keepdims))
        return value

    return reduce


def _reshape(x: Tensor, shape: Any) -> Tensor:
    target = [int(size) for size in shape]
    if target[0] != -1 or len(target) < 2:
        raise ModelError(f"expected a shape that leaves the batch open, got {target}")
    return x.reshape(x.shape[0], *target[1:])


def _get_item(x: Tensor, key: Any) -> Tensor:
    """Index as NumPy does; a slice with a step of -1 turns its axis round."""
    keys = list(key) if isinstance(key, list | tuple) else [key]
    tags = [_tag(one) for one in keys]
    if tags.count("...") > 1:
        raise ModelError("expected one ellipsis in an index, got more")
    if "..." in tags:
        place = tags.index("...")
        rest = x.ndim - sum(tag is not None for tag in tags) + 1
        tags[place : place + 1] = [slice(None)] * rest
    found, axis = x, 0
    for tag in tags:
        if tag is None:
            found, axis = found.unsqueeze(axis), axis + 1
        elif isinstance(tag, int):
            found = found.select(axis, tag)
        else:
            start, stop, step = tag.indices(found.shape[axis])
            if step == -1 and tag.start is None and tag.stop is None:
                found = found.flip(axis)
            elif step < 1:
                raise ModelError(f"expected slices with a positive step, got {tag}")
            else:
                found = found[(slice(None),) * axis + (slice(start, stop, step),)]
            axis += 1
    return found


def _tag(key: Any) -> Any:
    """Return what a part of an index stands for: a number, a slice, None, or "..." for an ellipsis."""
    if isinstance(key, dict) and key.get("class_name") in {"__ellipsis__", "Ellipsis"}:
        return "..."
    if isinstance(key, dict):
        inner = key.get("config", key)
        return slice(*(inner.get(part) for part in ("start", "stop", "step")))
    if key is None or (isinstance(key, int) and not isinstance(key, bool)):
        return key
    raise ModelError(f"expected an index of numbers and slices, got {key!r}")


def _pad(x: Tensor, pad_width: Any) -> Tensor:
    return functional.pad(x, [int(n) for before_after in reversed(pad_width) for n in before_after])


def _relu(
    x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    above = x if max_value is None else x.clamp(max=max_value)
    return torch.where(x >= threshold, above, negative_slope * (x - threshold))


def _leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return functional.leaky_relu(x, negative_slope)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.log_softmax(axis)


def _gelu(x: Tensor, approximate: bool = False) -> Tensor:
    return functional.gelu(x, approximate="tanh" if approximate else "none")


def _clip(x: Tensor, x_min: float, x_max: float) -> Tensor:
    return x.clamp(x_min, x_max)


def _join(xs: Any, axis: int = -1) -> Tensor:
    return torch.cat(list(xs), axis)


def _stack(xs: Any, axis: int = 0) -> Tensor:
    return torch.stack(list(xs), axis)


def _expand(x: Tensor, axis: int) -> Tensor:
    return x.unsqueeze(axis)


def _squeeze(x: Tensor, axis: Any) -> Tensor:
    return x.squeeze(_dims(axis))


def _transpose(x: Tensor, axes: Any) -> Tensor:
    return x.permute([int(axis) for axis in axes])


def _same(x: Tensor) -> Tensor:
    return x


#: what each operation does, and the names of its settings in order, behind the tensors
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "add": (operator.add, ()),
    "subtract": (operator.sub, ()),
    "multiply": (operator.mul, ()),
    "divide": (operator.truediv, ()),
    "power": (operator.pow, ()),
    "negative": (operator.neg, ()),
    "maximum": (lambda a, b: a.clamp_min(b) if isinstance(b, float | int) else torch.maximum(a, b), ()),
    "minimum": (lambda a, b: a.clamp_max(b) if isinstance(b, float | int) else torch.minimum(a, b), ()),
    "absolute": (torch.abs, ()),
    "square": (torch.square, ()),
    "sqrt": (torch.sqrt, ()),
    "rsqrt": (torch.rsqrt, ()),
    "exp": (torch.exp, ()),
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "silu": (functional.silu, ()),
    "hard_silu": (functional.hardswish, ()),
    "hard_sigmoid": (functional.hardsigmoid, ()),
    "softplus": (functional.softplus, ()),
    "elu": (functional.elu, ("alpha",)),
    "leaky_relu": (_leaky_relu, ("negative_slope",)),
    "gelu": (_gelu, ("approximate",)),
    "relu": (_relu, ("negative_slope", "max_value", "threshold")),
    "relu6": (functional.relu6, ()),
    "clip": (_clip, ("x_min", "x_max")),
    "softmax": (_softmax, ("axis",)),
    "log_softmax": (_log_softmax, ("axis",)),
    "mean": (_reduce("mean"), ("axis", "keepdims")),
    "sum": (_reduce("sum"), ("axis", "keepdims")),
    "max": (_reduce("amax"), ("axis", "keepdims")),
    "reshape": (_reshape, ("shape",)),
    "transpose": (_transpose, ("axes",)),
    "expand_dims": (_expand, ("axis",)),
    "squeeze": (_squeeze, ("axis",)),
    "concatenate": (_join, ("axis",)),
    "stack": (_stack, ("axis",)),
    "get_item": (_get_item, ("key",)),
    "pad": (_pad, ("pad_width",)),
    "identity": (_same, ()),
}
#: these treat each value alone, so the order of the axes does not matter to them
BY_VALUE = {
    *(
        "add",
        "subtract",
        "multiply",
        "divide",
        "power",
        "negative",
        "maximum",
        "minimum",
        "absolute",
        "square",
    ),
    *("sqrt", "rsqrt", "exp", "sigmoid", "tanh", "silu", "hard_silu", "hard_sigmoid", "softplus", "elu"),
    *("leaky_relu", "gelu", "relu", "relu6", "clip", "identity"),
}
