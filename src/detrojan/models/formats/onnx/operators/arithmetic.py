"""Operators that compute with one or several values, number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.modules import Apply, Clamp, Folded, HardSigmoid
from detrojan.models.formats.onnx.operators.layers import reshaped
from detrojan.models.formats.onnx.registry import operator
from detrojan.models.formats.onnx.values import Data, Known, Value

_UNARY: dict[str, Callable[[], nn.Module]] = {
    "Relu": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "HardSwish": nn.Hardswish,
    "Mish": nn.Mish,
    "Softsign": nn.Softsign,
    "Softplus": nn.Softplus,
    "Selu": nn.SELU,
    "Abs": lambda: Apply(torch.abs),
    "Neg": lambda: Apply(torch.neg),
    "Exp": lambda: Apply(torch.exp),
    "Log": lambda: Apply(torch.log),
    "Sqrt": lambda: Apply(torch.sqrt),
    "Reciprocal": lambda: Apply(torch.reciprocal),
    "Erf": lambda: Apply(torch.erf),
    "Sin": lambda: Apply(torch.sin),
    "Cos": lambda: Apply(torch.cos),
    "Floor": lambda: Apply(torch.floor),
    "Ceil": lambda: Apply(torch.ceil),
    "Round": lambda: Apply(torch.round),
    "Sign": lambda: Apply(torch.sign),
    "Not": lambda: Apply(torch.logical_not),
    "IsNaN": lambda: Apply(torch.isnan),
}

_BINARY: dict[str, Callable[..., Any]] = {
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Where": torch.where,
}


@operator(*_UNARY)
def _unary(call: Call) -> Value:
    return call.add(_UNARY[call.node.op](), call.value(0))


@operator("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "HardSigmoid", "Gelu", "Swish")
def _parametrised(call: Call) -> Value:
    defaults = {"LeakyRelu": 0.01, "HardSigmoid": 0.2}
    op, alpha = call.node.op, call.attribute("alpha", defaults.get(call.node.op, 1.0))
    if op == "Gelu":
        module: nn.Module = nn.GELU(call.attribute("approximate", "none"))
    elif op == "HardSigmoid":
        module = HardSigmoid(alpha, call.attribute("beta", 0.5))
    elif op == "ThresholdedRelu":
        module = nn.Threshold(alpha, 0.0)
    elif op == "Swish":
        if alpha != 1:
            raise ModelError(f"expected alpha 1, got {alpha:g}")
        module = nn.SiLU()
    else:
        module = {"LeakyRelu": nn.LeakyReLU, "Elu": nn.ELU, "Celu": nn.CELU}[op](alpha)
    return call.add(module, call.value(0))


@operator("PRelu")
def _prelu(call: Call) -> Value:
    return call.add(Apply(_leaky), call.value(0), call.value(1))


def _leaky(values: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return functional.relu(values) - slope * functional.relu(-values)


@operator("Clip")
def _clip(call: Call) -> Value:
    limits = []
    for name, place in (("min", 1), ("max", 2)):
        found = call.attribute(name) if call.opset < 11 else call.constant(place, name)
        limits.append(None if found is None else float(found))
    if limits == [0.0, None]:
        return call.add(nn.ReLU(), call.value(0))
    if limits == [0.0, 6.0]:
        return call.add(nn.ReLU6(), call.value(0))
    return call.add(Clamp(limits[0], limits[1]), call.value(0))


@operator(*_BINARY)
def _binary(call: Call) -> Value:
    values = [call.value(place) for place in range(3 if call.node.op == "Where" else 2)]
    return call.add(Apply(_BINARY[call.node.op]), *values)


@operator("Div", "Mod")
def _divide(call: Call) -> Value:
    first = call.value(0)
    real = (first.likes if isinstance(first, Data) else first.sides)[0].is_floating_point()
    if call.node.op == "Mod":
        module = Apply(torch.fmod if call.attribute("fmod", 0) else torch.remainder)
    else:
        module = Apply(torch.div) if real else Apply(torch.div, rounding_mode="trunc")
    return call.add(module, first, call.value(1))


@operator("Sum", "Mean", "Max", "Min")
def _fold(call: Call) -> Value:
    values = [call.value(place) for place in range(len(call.inputs))]
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(call.node.op, torch.add)
    divisor = float(len(values)) if call.node.op == "Mean" else 1.0
    return call.add(Folded(function, divisor), *values)


@operator("Add")
def _add(call: Call) -> Value:
    for place in (0, 1):
        value, other = call.value(place), call.value(1 - place)
        if isinstance(value, Data) and isinstance(other, Known) and other.trainable:
            joined = _joined(call, value, other, call.node.inputs[place])
            if joined is not None:
                return joined
    return call.add(Apply(torch.add), call.value(0), call.value(1))


def _joined(call: Call, value: Data, bias: Known, name: str) -> Data | None:
    """Make what is added to the output of a layer its bias, where nothing else takes that output."""
    network = call.builder.network
    step = network.maker(value.key) if isinstance(value.key, int) else None
    if step is None or call.builder.uses[name] != 1 or bias.constant is None:
        return None
    layer = network.get_submodule(step.module)
    if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is not None:
        return None
    width = layer.weight.shape[0]
    ranks = len(value.shape)
    axis = ranks - 1 if isinstance(layer, nn.Linear) else 1
    shape = (*(1,) * (ranks - bias.constant.ndim), *bias.constant.shape)
    if shape != tuple(width if place == axis else 1 for place in range(ranks)):
        return None
    call.builder.fill(step.module, layer, "bias", reshaped(bias, (width,)))
    return value
