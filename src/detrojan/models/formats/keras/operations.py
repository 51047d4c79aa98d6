"""Operations on tensors that stand in a graph between its layers: arithmetic, activations, shapes.

Keras 3 files them under the class of the operation, TensorFlow's Keras as TFOpLambda with the name of a
function. Only the functions named here are computed; nothing is looked up by a name in a file.
All are applied in Keras's own order of axes.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.calls import Taken
from detrojan.models.formats.keras.functions import BY_VALUE, FUNCTIONS, Tensor
from detrojan.models.formats.keras.parts import OTHER_WAY, Config, plain

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
_IDLE = {"name", "trainable", "function", "copy", "dtype_hint"}
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
    if name not in FUNCTIONS:
        if not stated:
            return None
        raise ModelError(f"expected layers, got the operation {kind!r}; {OTHER_WAY}")
    return name


@fx.wrap
def compute(name: str, given: list[Any], settings: dict[str, Any]) -> Tensor:
    """Return the result of an operation; tracing leaves it whole."""
    result: Tensor = FUNCTIONS[name][0](*given, **settings)
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
    _, names = FUNCTIONS[name]
    given, settings = [], {}
    stated = {key: value for key, value in config.items() if not _harmless(key, value)}
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
        elif not _harmless(key, value):
            raise ModelError(f"expected {name} without {key}={value!r}; {OTHER_WAY}")
    return Operation(name, given, settings)


def _harmless(key: str, value: Any) -> bool:
    """Tell whether a setting changes nothing here."""
    text = str(value).lower()
    if key == "dtype":  # whole numbers would be rounded
        return not text.startswith(("int", "uint", "bool"))
    if key == "data_format":
        return text in {"none", "nhwc", "channels_last"}
    if key == "mode":
        return text == "constant"
    return key in _IDLE or value is None or value is False or (key == "constant_values" and value == 0)


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
    return operation.name in BY_VALUE and not any(isinstance(one, list) for one in operation.given)
