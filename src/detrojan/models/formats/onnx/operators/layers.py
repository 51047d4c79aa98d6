"""Operators with weights: convolutions, linear layers and norms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.modules import Apply, Gemm, Normalised, PaddedConv2d
from detrojan.models.formats.onnx.registry import operator
from detrojan.models.formats.onnx.values import Data, Known, Value, known


def window_padding(
    call: Call, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the padding before each axis, then the padding behind each.

    Args:
        call: a convolution or a pooling.
        kernel: per axis.
        stride: per axis.
        dilation: per axis.

    Raises:
        ModelError: a negative padding, or one of an unknown kind.

    """
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        before, behind = [], []
        for size, k, s, d in zip(call.shape()[2:], kernel, stride, dilation, strict=True):
            total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
            less, more = total // 2, total - total // 2
            before.append(less if auto == "SAME_UPPER" else more)
            behind.append(more if auto == "SAME_UPPER" else less)
        return (*before, *behind)
    if auto not in {"NOTSET", "VALID", ""}:
        raise ModelError(f"expected a padding out of SAME_UPPER, SAME_LOWER, VALID, NOTSET, got {auto!r}")
    pads = tuple(call.attribute("pads", [0] * 2 * len(kernel))) if auto != "VALID" else (0,) * 2 * len(kernel)
    if len(pads) != 2 * len(kernel) or min(pads) < 0:
        raise ModelError(f"expected {2 * len(kernel)} paddings of 0 or more, got {pads}")
    return pads


def window(call: Call, name: str, axes: int) -> tuple[int, ...]:
    """Return a number of 1 or more per axis, such as "strides"; 1 where the node does not say.

    Raises:
        ModelError: another count, or numbers below 1.

    """
    found = tuple(call.attribute(name, [1] * axes))
    if len(found) != axes or not all(isinstance(one, int) and 0 < one < 1 << 16 for one in found):
        raise ModelError(f"expected {name} of {axes} numbers from 1 on, got {found}")
    return found


def _weights(call: Call, **places: int) -> dict[str, Known] | None:
    """Return the inputs that are a module's own tensors; None where one depends on the images."""
    found = {name: call.given(place) for name, place in places.items()}
    if any(isinstance(value, Data) or (value and value.constant is None) for value in found.values()):
        return None
    return {name: value for name, value in found.items() if isinstance(value, Known)}


@operator("Conv")
def _conv(call: Call) -> Value:
    shape = call.shape(1)
    axes = len(shape) - 2
    if axes not in {1, 2} or call.rank() != axes + 2:
        raise ModelError(
            f"expected a convolution over one or two axes, got weights {shape} for {call.shape()}"
        )
    kernel, groups = tuple(shape[2:]), call.attribute("group", 1)
    stride, dilation = window(call, "strides", axes), window(call, "dilations", axes)
    pads = window_padding(call, kernel, stride, dilation)
    before, behind = pads[:axes], pads[axes:]
    weights = _weights(call, weight=1, bias=2)
    if weights is None:
        if before != behind:
            raise ModelError("expected the same padding on both sides for weights that are worked out")
        function = functional.conv1d if axes == 1 else functional.conv2d
        module = Apply(function, stride=stride, padding=before, dilation=dilation, groups=groups)
        return call.add(module, *(value for value in call.inputs if value is not None))
    options: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "bias": "bias" in weights,
        "device": "meta",
    }
    kind: Any = nn.Conv1d if axes == 1 else nn.Conv2d
    if before == behind:
        layer: nn.Module = kind(shape[1] * groups, shape[0], **options, padding=before)
    elif axes == 1:
        raise ModelError(f"expected the same padding on both sides, got {pads}")
    else:
        layer = PaddedConv2d(shape[1] * groups, shape[0], **options)
        layer.sides = (pads[1], pads[3], pads[0], pads[2])
    return call.weigh(layer, weights, call.value(0))


@operator("Gemm")
def _gemm(call: Call) -> Value:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    turn_a, turn_b = bool(call.attribute("transA", 0)), bool(call.attribute("transB", 0))
    weights = _weights(call, weight=1, bias=2)
    held = None if weights is None or turn_a or alpha != 1 else _linear(weights, beta, turn=not turn_b)
    if held is None or not isinstance(call.value(0), Data):
        module = Gemm(alpha, beta, turn_a=turn_a, turn_b=turn_b)
        return call.add(module, *(value for value in call.inputs if value is not None))
    return _add_linear(call, held, call.value(0))


def _linear(weights: dict[str, Known], beta: float, *, turn: bool) -> dict[str, Known] | None:
    """Return weight (out, in) and bias (out,) of a linear layer; None where they do not make one."""
    weight, bias = weights["weight"], weights.get("bias")
    if weight.sides[0].ndim != 2:
        return None
    weight = permuted(weight, (1, 0)) if turn else weight
    if bias is None:
        return {"weight": weight}
    width = weight.sides[0].shape[0]
    if beta != 1 or bias.sides[0].numel() != width or max(bias.sides[0].shape) != width:
        return None
    return {"weight": weight, "bias": reshaped(bias, (width,))}


def _add_linear(call: Call, weights: dict[str, Known], value: Value) -> Data:
    after, before = weights["weight"].sides[0].shape
    layer = nn.Linear(before, after, bias="bias" in weights, device="meta")
    return call.weigh(layer, weights, value)


@operator("MatMul")
def _matmul(call: Call) -> Value:
    first, second = call.value(0), call.value(1)
    if isinstance(first, Data) and isinstance(second, Known) and second.trainable and call.rank() > 1:
        weights = _linear({"weight": second}, 1.0, turn=True)
        if weights is not None:
            return _add_linear(call, weights, first)
    return call.add(Apply(torch.matmul), first, second)


@operator("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):
        raise ModelError("expected a batch norm as in use, got one as in training")
    epsilon, momentum = call.attribute("epsilon", 1e-5), call.attribute("momentum", 0.9)
    weights = _weights(call, weight=1, bias=2, running_mean=3, running_var=4)
    if weights is None or len(weights) != 4:
        values = [call.value(place) for place in range(5)]
        return call.add(Normalised("batch", epsilon), *values)
    kind = nn.BatchNorm2d if call.rank() == 4 else nn.BatchNorm1d
    norm = kind(call.shape()[1], eps=epsilon, momentum=min(max(1 - momentum, 0.0), 1.0), device="meta")
    norm._buffers["num_batches_tracked"] = torch.tensor(0)  # noqa: SLF001 - it is not in the file
    return call.weigh(norm, weights, call.value(0))


@operator("LayerNormalization", "RMSNormalization")
def _layer_norm(call: Call) -> Value:
    axis, epsilon = call.axis(-1), call.attribute("epsilon", 1e-5)
    shape = call.shape()[axis:]
    weights = _weights(call, weight=1, bias=2)
    rms = call.node.op.startswith("RMS")
    fits = weights is not None and all(value.sides[0].shape == shape for value in weights.values())
    if rms or not fits or weights is None or len(weights) != 2:
        values = [value for value in call.inputs if value is not None]
        return call.add(Normalised("rms" if rms else "layer", epsilon, shape), *values)
    return call.weigh(nn.LayerNorm(shape, epsilon, device="meta"), weights, call.value(0))


@operator("InstanceNormalization", "GroupNormalization")
def _group_norm(call: Call) -> Value:
    epsilon, channels = call.attribute("epsilon", 1e-5), call.shape()[1]
    instance = call.node.op.startswith("Instance")
    groups = channels if instance else call.attribute("num_groups", 1)
    weights = _weights(call, weight=1, bias=2)
    if weights is not None and not instance and call.opset < 21:  # one number for each group
        times = channels // max(groups, 1)
        weights = {name: known(value.sides[0].repeat_interleave(times)) for name, value in weights.items()}
    if weights is None or len(weights) != 2:
        values = [call.value(place) for place in range(3)]
        module = Normalised("instance" if instance else "group", epsilon, groups=groups)
        return call.add(module, *values)
    return call.weigh(nn.GroupNorm(groups, channels, epsilon, device="meta"), weights, call.value(0))


@operator("LRN")
def _response_norm(call: Call) -> Value:
    size, bias = call.attribute("size", 0), call.attribute("bias", 1.0)
    alpha, beta = call.attribute("alpha", 1e-4), call.attribute("beta", 0.75)
    if size < 1 or size % 2 == 0:
        raise ModelError(f"expected an odd size of 1 or more, got {size}")
    return call.add(nn.LocalResponseNorm(size, alpha, beta, bias), call.value(0))


def permuted(value: Known, order: tuple[int, ...]) -> Known:
    """Return numbers with their axes in another order; an initializer stays one."""
    source = None if value.source is None else value.source.permuted(order)
    if value.sides[0] is value.sides[1]:
        return known(value.sides[0].permute(order), source)
    return Known((value.sides[0].permute(order), value.sides[1].permute(order)))


def reshaped(value: Known, shape: tuple[int, ...]) -> Known:
    """Return numbers in another shape; an initializer stays one."""
    held = value.sides[0]
    source = None if value.source is None else value.source.reshaped(tuple(held.shape))
    return known(held.reshape(shape), source)
