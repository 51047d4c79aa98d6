"""Rewrites a network that is only asked, never trained, so that it answers the same in less time.

Three things are rewritten, where they occur: a batch norm behind a convolution becomes part of it; a
rectifier before a max pooling comes after it, where fewer numbers are left; and the slope by an image's
few channels is computed for several pixels at once, which fills the processor's vectors.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

logger = logging.getLogger(__name__)

#: numbers in the smallest vector that is filled (AVX2, float32)
VECTOR = 8
#: how far slopes may differ, as a share of the largest one: roundings fall elsewhere
NEARLY = 1e-3
_RELU = {functional.relu, torch.relu, torch.relu_}


def rewritten(network: nn.Module, sample: torch.Tensor, *, by_tiles: bool) -> nn.Module:
    """Return a network that answers the same, faster; the network itself where nothing can be rewritten.

    Args:
        network: in evaluation mode, its parameters frozen; it may be changed in its inner parts.
        sample: what it is asked with (N, C, H, W) or (N, H, W, C), to compare the slopes on.
        by_tiles: whether slopes by few channels are computed for several pixels at once (on a CPU).

    """
    try:
        graph = _traced(network)
    except Exception as error:  # noqa: BLE001 - a network may do anything when it is traced
        logger.info("the network is searched as it is, since it cannot be traced: %s", error)
        return network
    _fold_norms(graph)
    _pool_first(graph)
    if by_tiles:
        _use_tiles(graph)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    graph.eval()
    try:
        same = _same(network, graph, sample)
    except RuntimeError as error:
        logger.info("the network is searched as it is, since it does not run otherwise: %s", error)
        return network
    if not same:
        logger.info("the network is searched as it is, since it answers otherwise when it is rewritten")
        return network
    return graph


def _same(network: nn.Module, graph: fx.GraphModule, sample: torch.Tensor) -> bool:
    """Tell whether the two answer alike; where rounding alone may differ, with more digits.

    A value that rounding carries over the corner of a rectifier changes slopes by more than rounding does.
    """
    if _near(_slope(network, sample), _slope(graph, sample)):
        return True
    exact = [_slope(copy.deepcopy(one).double(), sample.double()) for one in (network, graph)]
    return _near(exact[0], exact[1])


def _near(wanted: torch.Tensor, got: torch.Tensor) -> bool:
    return float((wanted - got).abs().max()) <= NEARLY * float(wanted.abs().max())


#: convolutions that pad by themselves, as a library calls them; like PyTorch's own they are one step
_PADDING = {"Conv2dSame"}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_convolution(m) or super().is_leaf_module(m, module_qualified_name)


def _is_convolution(module: nn.Module | None) -> bool:
    kind = type(module)
    return kind is nn.Conv2d or (issubclass(kind, nn.Conv2d) and kind.__name__ in _PADDING)


def _traced(network: nn.Module) -> fx.GraphModule:
    """Return a network's steps, without those that only check shapes."""
    graph = fx.GraphModule(network, _Tracer().trace(network))
    for node in list(graph.graph.nodes):
        if node.target is torch._assert and not node.users:  # noqa: SLF001 - fx has no other name for it
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    return graph


def _slope(network: nn.Module, sample: torch.Tensor) -> torch.Tensor:
    """Return how the logits, each with another weight, depend on the sample."""
    seen = sample.detach().requires_grad_(True)
    logits = network(seen)
    weight = torch.linspace(-1, 1, logits.shape[1], device=logits.device)
    (slope,) = torch.autograd.grad((logits * weight).sum(), seen)
    return torch.cat([slope.flatten(), logits.detach().flatten()])


def _module(graph: fx.GraphModule, node: fx.Node | Any) -> nn.Module | None:
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph.get_submodule(str(node.target))
    return None


def _fold_norms(graph: fx.GraphModule) -> None:
    """Make each batch norm that follows a convolution, and only it, a part of it."""
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    for node in list(graph.graph.nodes):
        norm, before = _norm(graph, node, calls), node.args[0] if node.args else None
        if norm is None or not isinstance(before, fx.Node):
            continue
        convolution = _module(graph, before)
        once = len(before.users) == 1 and calls[str(before.target)] == 1
        if once and isinstance(convolution, nn.Conv2d) and _is_convolution(convolution):
            graph.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)


def _norm(graph: fx.GraphModule, node: fx.Node, calls: dict[str, int]) -> nn.BatchNorm2d | None:
    """Return the batch norm, with statistics of its own, that a step computes; None where it is none."""
    norm = _module(graph, node)
    if isinstance(norm, nn.BatchNorm2d):
        return norm if norm.running_mean is not None and calls[str(node.target)] == 1 else None
    if node.op != "call_function" or node.target is not functional.batch_norm:
        return None
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given: dict[str, Any] = {"weight": None, "bias": None, "training": False, "eps": 1e-5}
    given |= {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    tensors = [_tensor(graph, given.get(name)) for name in ("running_mean", "running_var", "weight", "bias")]
    if given["training"] or any(one is None for one in tensors):
        return None
    made = nn.BatchNorm2d(len(tensors[0]), eps=float(given["eps"])).eval()  # type: ignore[arg-type]
    made.running_mean, made.running_var = tensors[:2]
    made.weight, made.bias = (nn.Parameter(one, requires_grad=False) for one in tensors[2:])  # type: ignore[arg-type]
    return made


def _tensor(graph: fx.GraphModule, node: Any) -> torch.Tensor | None:
    """Return the tensor of the network that a step stands for."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, last = str(node.target).rpartition(".")
    found = getattr(graph.get_submodule(owner), last, None)
    return found if isinstance(found, torch.Tensor) else None


def _pool_first(graph: fx.GraphModule) -> None:
    """Swap each rectifier with the max pooling behind it, and only it: the largest stays the largest."""
    for node in list(graph.graph.nodes):
        if not _is_relu(graph, node) or len(node.users) != 1:
            continue
        (pool,) = node.users
        if type(_module(graph, pool)) is not nn.MaxPool2d or pool.args[0] is not node:
            continue
        behind = list(pool.users)
        pool.replace_input_with(node, node.args[0])
        with graph.graph.inserting_after(pool):
            after = graph.graph.create_node(node.op, node.target, (pool, *node.args[1:]), dict(node.kwargs))
        for user in behind:
            user.replace_input_with(pool, after)
        graph.graph.erase_node(node)


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _RELU
    return type(_module(graph, node)) is nn.ReLU


def _use_tiles(graph: fx.GraphModule) -> None:
    for name, module in list(graph.named_modules()):
        if type(module) is nn.Conv2d and _few_channels(module):
            graph.set_submodule(name, TiledConvolution(module))


def _few_channels(layer: nn.Conv2d) -> bool:
    return (
        2 * layer.in_channels <= VECTOR
        and layer.stride == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and not isinstance(layer.padding, str)
        and layer.padding_mode == "zeros"
        and max(layer.padding) < min(layer.kernel_size)
    )


class TiledConvolution(nn.Module):
    """A convolution of few channels whose slope by its input is computed for several pixels at once.

    The slope by the input is a convolution with as many output channels as the input has; with three of
    them most of each vector is idle. Here the pixels of a tile are its output channels, and its stride is
    the tile.

    Args:
        layer: stride 1, no dilation, no groups, padded with zeros by less than its kernel.

    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        channels = layer.in_channels
        self.wide = min(2, VECTOR // channels)
        self.tall = min(2, VECTOR // (channels * self.wide))
        (high, broad), turned = layer.kernel_size, layer.weight.detach().flip(2, 3).transpose(0, 1)
        shape = (
            self.tall * self.wide * channels,
            layer.out_channels,
            high + self.tall - 1,
            broad + self.wide - 1,
        )
        tiles = torch.zeros(shape, device=turned.device)
        for place in range(self.tall * self.wide):
            row, column = divmod(place, self.wide)
            part = slice(place * channels, (place + 1) * channels)
            tiles[part, :, row : row + high, column : column + broad] = turned
        self.register_buffer("tiles", tiles.contiguous(memory_format=torch.channels_last), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the convolution returns."""
        out: torch.Tensor = _Tiled.apply(images, self)  # type: ignore[no-untyped-call]
        return out

    def slope(self, by_output: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return the slope by the input (N, C, H, W), channels last, given that by the output."""
        high, broad = self.layer.kernel_size
        above, left = high - 1 - int(self.layer.padding[0]), broad - 1 - int(self.layer.padding[1])
        below, right = above + -height % self.tall, left + -width % self.wide
        padded = functional.pad(by_output, (left, right, above, below))
        out = functional.conv2d(padded, self.tiles, stride=(self.tall, self.wide))  # type: ignore[arg-type]
        count, _, down, across = out.shape
        tiles = out.permute(0, 2, 3, 1).reshape(count, down, across, self.tall, self.wide, -1)
        whole = tiles.transpose(2, 3).reshape(count, down * self.tall, across * self.wide, -1)
        return whole[:, :height, :width].permute(0, 3, 1, 2)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, layer: TiledConvolution) -> torch.Tensor:
        ctx.layer, ctx.size = layer, images.shape[2:]
        out: torch.Tensor = layer.layer(images)
        return out

    @staticmethod
    def backward(ctx: Any, by_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        height, width = ctx.size
        return ctx.layer.slope(by_output, height, width), None
