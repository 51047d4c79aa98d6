"""Operations on tensors that stand in a graph between its layers: arithmetic, activations, shapes.

Keras 3 files them under the class of the operation, TensorFlow's Keras as TFOpLambda with the name of a
function. Only the functions named here are computed; nothing is looked up by a name in a file.
All are applied in Keras's own order of axes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.models.formats.keras.calls import Taken
from detrojan.models.formats.keras.parts import OTHER_WAY, Config, plain

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


def _gelu(x: Tensor, approximate: bool = True) -> Tensor:
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
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
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
_BY_VALUE = {
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
#: Keras 3's classes of operations whose names are not simply those above
_CLASSES = {
    "TrueDivide": "divide",
    "Abs": "absolute",
    "GetItem": "get_item",
    "Amax": "max",
    "Cast": "identity",
}
_CLASSES |= {"StopGradient": "identity", "ConvertToTensor": "identity"}
#: TensorFlow's functions by the names that TFOpLambda has for them
_TENSORFLOW = {
    **{f"__operators__.{name}": name for name in ("add", "multiply", "subtract")},
    **{
        f"math.{name}": name
        for name in ("add", "subtract", "multiply", "divide", "negative", "maximum", "minimum")
    },
    **{f"math.{name}": name for name in ("square", "sqrt", "rsqrt", "exp", "sigmoid", "tanh", "softplus")},
    **{
        f"nn.{name}": name
        for name in ("relu6", "sigmoid", "tanh", "silu", "softplus", "softmax", "log_softmax")
    },
    **{f"math.reduce_{name}": name for name in ("mean", "sum", "max")},
    **{name: name for name in ("reshape", "transpose", "expand_dims", "squeeze", "identity", "pad", "stack")},
    "math.truediv": "divide",
    "math.abs": "absolute",
    "math.pow": "power",
    "nn.bias_add": "add",
    "nn.relu": "relu",
    "nn.elu": "elu",
    "nn.swish": "silu",
    "nn.leaky_relu": "leaky_relu",
    "nn.gelu": "gelu",
    "clip_by_value": "clip",
    "concat": "concatenate",
    "math.softmax": "softmax",
    "cast": "identity",
    "stop_gradient": "identity",
    "convert_to_tensor": "identity",
    "compat.v1.transpose": "transpose",
    "__operators__.getitem": "get_item",
    "compat.v1.squeeze": "squeeze",
    "compat.v1.pad": "pad",
}
#: settings by other names, and those that change nothing here
_SETTINGS = {
    "newshape": "shape",
    "dim": "axis",
    "perm": "axes",
    "slice_spec": "key",
    "clip_value_min": "x_min",
    "clip_value_max": "x_max",
    "paddings": "pad_width",
    "keep_dims": "keepdims",
}
_IDLE = {
    "name",
    "dtype",
    "trainable",
    "function",
    "copy",
    "dtype_hint",
    "data_format",
    "mode",
    "constant_values",
}
_TENSORS = (
    "x",
    "x1",
    "x2",
    "y",
    "a",
    "b",
    "input",
    "inputs",
    "value",
    "values",
    "features",
    "logits",
    "tensor",
    "bias",
)


def operation_of(layer: Config) -> str | None:
    """Return which operation a step of a graph is, or None where it is a layer.

    Raises:
        ModelError: an operation that is not among those we know.

    """
    kind, config, module = layer["class_name"], layer["config"], layer.get("module")
    if kind in {"TFOpLambda", "SlicingOpLambda"}:
        function = str(config.get("function"))
        if function not in _TENSORFLOW:
            raise ModelError(
                f"expected an operation out of {', '.join(_TENSORFLOW)}, got {function!r}; {OTHER_WAY}"
            )
        return _TENSORFLOW[function]
    stated = isinstance(module, str) and ".ops." in module
    if not stated and (module is not None or not _seems_operation(layer)):
        return None
    name = _CLASSES.get(kind) or "".join(f"_{c.lower()}" if c.isupper() else c for c in kind).lstrip("_")
    if name not in _FUNCTIONS:
        if not stated:
            return None
        raise ModelError(f"expected layers, got the operation {kind!r}; {OTHER_WAY}")
    return name


@fx.wrap
def compute(name: str, given: list[Any], settings: dict[str, Any]) -> Tensor:
    """Return the result of an operation; tracing leaves it whole."""
    result: Tensor = _FUNCTIONS[name][0](*given, **settings)
    return result


def _seems_operation(layer: Config) -> bool:
    """Tell an operation in HDF5 files of Keras 3, which do not say the module: it has no dtype."""
    config, nodes = layer["config"], layer.get("inbound_nodes")
    new = isinstance(nodes, list) and all(isinstance(node, dict) for node in nodes)
    return new and isinstance(config, dict) and not {"dtype", "trainable"} & set(config)


class Operation(nn.Module):
    """One operation on tensors and constants.

    Args:
        name: which one.
        given: its tensors, as `Taken` that say which input it is, and its constants.
        settings: what else it takes.

    """

    def __init__(self, name: str, given: list[Any], settings: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.given, self.settings = name, given, settings

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the result."""
        return compute(self.name, [self._filled(one, inputs) for one in self.given], self.settings)

    def _filled(self, given: Any, inputs: tuple[Tensor, ...]) -> Any:
        if isinstance(given, Taken):
            return inputs[given.place]
        if isinstance(given, list) and any(isinstance(one, Taken) for one in given):
            return [self._filled(one, inputs) for one in given]
        return inputs[0].new_tensor(given) if isinstance(given, list) else given


def convert(name: str, config: Config, args: list[Any], kwargs: dict[str, Any]) -> Operation:
    """Return the module of an operation.

    Args:
        name: which one.
        config: its settings in the file.
        args: what it is called with, `Taken` for tensors.
        kwargs: the same, by name.

    Raises:
        ModelError: settings that we do not know.

    """
    _, names = _FUNCTIONS[name]
    given, settings = [], {}
    stated = {key: value for key, value in config.items() if key not in _IDLE}
    for place, value in enumerate(args):
        setting = place - _count_tensors(name)
        if setting >= 0 and setting < len(names):
            settings[names[setting]] = value
        else:
            given.append(_constant(value))
    for key, value in {**stated, **kwargs}.items():
        known = "negative_slope" if (name, key) == ("leaky_relu", "alpha") else _SETTINGS.get(key, key)
        if known in names:
            if value is not None:
                settings[known] = plain(value)
        elif key in _TENSORS:
            given.append(_constant(value))
        elif key not in _IDLE and value is not None and value is not False:
            raise ModelError(f"expected {name} without {key}={value!r}; {OTHER_WAY}")
    return Operation(name, given, settings)


def _count_tensors(name: str) -> int:
    """Return how many tensors or constants stand before an operation's settings."""
    return 2 if name in {"add", "subtract", "multiply", "divide", "power", "maximum", "minimum"} else 1


def _constant(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, Taken) or (isinstance(value, float | int) and not isinstance(value, bool)):
        return value
    if isinstance(value, list):
        return [_constant(one) for one in value]
    raise ModelError(f"expected tensors and numbers, got {value!r}; {OTHER_WAY}")


def by_value(operation: Operation) -> bool:
    """Tell whether an operation treats each value alone, with no constants but single numbers."""
    return operation.name in _BY_VALUE and not any(isinstance(one, list) for one in operation.given)
