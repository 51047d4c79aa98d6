"""Depthwise convolutions with a stride: the one layer whose slope takes longer in bfloat16 on a CPU.

PyTorch's kernels compute it ten to twenty times slower than in float32. In an EfficientNet four such layers
took more than half of a search's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def has_strided_depthwise(network: nn.Module) -> bool:
    """Tell whether a network has depthwise convolutions with a stride."""
    return any(
        isinstance(one, nn.Conv2d) and 1 < one.groups == one.in_channels and max(one.stride) > 1
        for one in network.modules()
    )


class StridedInFull(TorchFunctionMode):
    """Within the block, depthwise convolutions with a stride are computed in float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or not _is_strided_depthwise(args, kwargs):
            return func(*args, **kwargs)
        images, *rest = args
        with torch.autocast(images.device.type, enabled=False):
            return func(images.float(), *(_in_full(one) for one in rest), **kwargs)


def _is_strided_depthwise(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell it by the arguments of a convolution: images, weight, bias, stride, padding, dilation, groups."""
    stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    strides = (stride,) if isinstance(stride, int) else stride
    return len(args) > 1 and 1 < groups == args[0].shape[1] == len(args[1]) and max(strides) > 1


def _in_full(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value
