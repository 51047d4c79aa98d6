"""Operators that make one number of several: pooling, means, sums, softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.modules import Apply, FlatSoftmax, PaddedPool2d
from detrojan.models.formats.onnx.operators.layers import window, window_padding
from detrojan.models.formats.onnx.registry import operator
from detrojan.models.formats.onnx.values import Value


@operator("MaxPool", "AveragePool")
def _pool(call: Call) -> Value:
    axes = call.rank() - 2
    if axes != 2:
        raise ModelError(f"expected pooling over two axes, got {axes}")
    average = call.node.op == "AveragePool"
    kernel = window(call, "kernel_shape", axes)
    stride, dilation = window(call, "strides", axes), window(call, "dilations", axes)
    pads = window_padding(call, kernel, stride, dilation)
    up, counted = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    before, behind = pads[:2], pads[2:]
    if average and dilation != (1, 1):
        raise ModelError(f"expected an average without dilation, got {dilation}")
    inside = all(2 * pad <= size for pad, size in zip(before, kernel, strict=True))
    own = before if before == behind and inside else (0, 0)
    if average:
        more: dict[str, Any] = {"count_include_pad": counted}
    else:
        more = {"dilation": dilation}
    more |= {"kernel_size": kernel, "stride": stride, "padding": own, "ceil_mode": up}
    pool: nn.Module = nn.AvgPool2d(**more) if average else nn.MaxPool2d(**more)
    if own != before or own != behind:
        sides = (pads[1], pads[3], pads[0], pads[2])
        pool = PaddedPool2d(pool, sides, average=average, counted=counted)
    return call.add(pool, call.value(0))


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call) -> Value:
    if call.rank() != 4:
        raise ModelError(f"expected maps (N, C, H, W), got {call.shape()}")
    average = call.node.op == "GlobalAveragePool"
    return call.add(nn.AdaptiveAvgPool2d(1) if average else nn.AdaptiveMaxPool2d(1), call.value(0))


def _product(values: torch.Tensor, dim: tuple[int, ...], *, keepdim: bool) -> torch.Tensor:
    for axis in sorted(dim, reverse=True):
        values = values.prod(axis, keepdim=keepdim)
    return values


def _l1(values: torch.Tensor, dim: tuple[int, ...], *, keepdim: bool) -> torch.Tensor:
    return values.abs().sum(dim, keepdim=keepdim)


def _squares(values: torch.Tensor, dim: tuple[int, ...], *, keepdim: bool) -> torch.Tensor:
    return values.square().sum(dim, keepdim=keepdim)


_REDUCE: dict[str, Callable[..., torch.Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceProd": _product,
    "ReduceL1": _l1,
    "ReduceL2": torch.linalg.vector_norm,
    "ReduceSumSquare": _squares,
    "ReduceLogSumExp": torch.logsumexp,
}


@operator(*_REDUCE)
def _reduce(call: Call) -> Value:
    axes = call.numbers("axes", 1)
    if axes is None or not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return call.value(0)
        axes = tuple(range(call.rank()))
    dims = tuple(sorted(call.positive(axis, call.rank()) for axis in axes))
    keep = bool(call.attribute("keepdims", 1))
    return call.add(Apply(_REDUCE[call.node.op], dim=dims, keepdim=keep), call.value(0))


@operator("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Value:
    log = call.node.op == "LogSoftmax"
    axis = call.axis(-1 if call.opset >= 13 else 1)
    if call.opset >= 13 or axis == call.rank() - 1:
        return call.add(nn.LogSoftmax(axis) if log else nn.Softmax(axis), call.value(0))
    return call.add(FlatSoftmax(axis, log=log), call.value(0))


@operator("ArgMax")
def _argmax(call: Call) -> Value:
    axis, keep = call.axis(0), bool(call.attribute("keepdims", 1))
    return call.add(Apply(torch.argmax, dim=axis, keepdim=keep), call.value(0))


@operator("LpNormalization")
def _lp_normal(call: Call) -> Value:
    axis, p = call.axis(-1), call.attribute("p", 2)
    return call.add(Apply(functional.normalize, p=float(p), dim=axis, eps=0.0), call.value(0))


@operator("Einsum")
def _einsum(call: Call) -> Value:
    equation = call.attribute("equation", "")
    values = [call.value(place) for place in range(len(call.inputs))]
    return call.add(Apply(_summed, equation=equation), *values)


def _summed(*values: torch.Tensor, equation: str) -> torch.Tensor:
    return torch.einsum(equation, *values)
