"""A network that a file's tensors may belong to, and the libraries' networks among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.models.library_nets import suited
from detrojan.models.matching import Order, Shape, countless, match, match_by_name, shapes_of
from detrojan.models.nets import Net
from detrojan.models.preprocessing import Preprocessing

#: what a person has to know where names did not tell which tensor is which
PAIRED = (
    "its tensors have other names than those of {}, so they were paired in order; every figure rests on that"
)


@dataclass(frozen=True)
class Candidate:
    """A network, without its weights, to which a file's tensors fit.

    Attributes:
        net: its name, or that of its factory.
        shape: (C, H, W) of its input.
        network: the network.
        keys: the file's key for each tensor of the network.
        by_name: whether the names agree.
        usual: whether the shape is the network's usual one.
        preprocessing: what its library states, or None.
        notes: what was guessed, for people.

    """

    net: str
    shape: tuple[int, int, int]
    network: nn.Module
    keys: dict[str, str]
    by_name: bool
    usual: bool
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


def misfit(where: str, name: str, problems: list[str]) -> str:
    """Return the error for tensors that do not fit a network."""
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"{where}: the weights do not fit {name}: {'; '.join(problems[:3])}{more}"


def guessed(chosen: Candidate) -> str:
    """Return what a person has to know of a network that its tensors were taken to tell."""
    size = "x".join(map(str, chosen.shape))
    said = f"its network is a guess, {chosen.net} for {size} by its tensors; every figure rests on that"
    if chosen.net in {"mnist_cnn", "badnets_cnn"}:
        return f"{said}, and on average pooling, which weights do not tell from max (--net mnist_cnn_max)"
    return f"{said} (--net or --factory states it)"


def from_library(
    net: Net, shapes: Mapping[str, Shape], given: tuple[int, int, int] | None, where: str, *, order: Order
) -> Candidate:
    """Return a library's network for as many classes and channels as the file has.

    Tensors are paired by name. Where a file shares no name with the network, its tensors are those of another
    implementation; they are paired in order, and a note says so.

    Args:
        net: the network.
        shapes: the shapes in the file by name.
        given: (C, H, W) of its input, where the caller states it.
        where: the file, for error texts.
        order: which order of the file counts, see `matching.match`.

    Raises:
        WeightsError: the tensors do not fit.
        ModelError: the library does not build it so.
        MissingExtraError: the library is not installed.

    """
    usual = _usual_shapes(net)
    keys, _ = match_by_name(usual, shapes)
    apart = not keys and len(countless(shapes)) == len(usual)
    if apart:
        keys = dict(zip(usual, countless(shapes), strict=True))
    got = {name: shapes[keys[name]] for name in usual if name in keys}
    stem = next((got[name] for name, size in usual.items() if len(size) == 4 and name in got), None)
    channels = stem[1] if stem is not None and len(stem) == 4 else net.shape[0]
    shape = given or (channels, *net.shape[1:])
    heads = [name for name, size in usual.items() if size[0] == net.classes and len(size) > 1 and name in got]
    network = _unfilled(net, got[heads[-1]][0] if heads and got[heads[-1]] else net.classes, shape)
    if apart:
        keys, by_name, wrong = match(shapes_of(network), shapes, order=order)
    else:
        by_name = True
        keys, wrong = match_by_name(shapes_of(network), shapes)
    if wrong:
        raise WeightsError(misfit(where, net.name, wrong))
    said = None if net.preprocessing is None else suited(net.preprocessing, net.shape, shape)
    notes = () if by_name else (f"{where}: {PAIRED.format(net.name)}",)
    usual_shape = shape == net.shape
    return Candidate(net.name, shape, network, keys, by_name, usual_shape, preprocessing=said, notes=notes)


def _usual_shapes(net: Net) -> dict[str, Shape]:
    """Return the shapes of a library's network as it usually is; without memory where the library can."""
    try:
        with torch.device("meta"):
            return shapes_of(net.build(net.classes, net.shape))
    except ModelError:
        return shapes_of(net.build(net.classes, net.shape))


def _unfilled(net: Net, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return a library's network to fill, without memory where a file can give it all that it needs."""
    try:
        with torch.device("meta"):
            network = net.build(classes, shape)
    except ModelError:
        return net.build(classes, shape)
    return network if _all_is_filed(network) else net.build(classes, shape)


def _all_is_filed(network: nn.Module) -> bool:
    """Tell whether a network has no tensor beside those of its state dict, and none of these twice."""
    filed = len(network.state_dict())
    held = [len(dict(found)) for found in (network.named_parameters(), network.named_buffers())]
    plain = any(isinstance(one, torch.Tensor) for part in network.modules() for one in vars(part).values())
    return sum(held) == filed and not plain
