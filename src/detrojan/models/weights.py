"""Puts the tensors of a file into a network: which network it is, and which tensor goes where."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from detrojan.errors import MissingExtraError, ModelError, OptionError, WeightsError
from detrojan.models.candidates import PAIRED, Candidate, from_library, guessed, misfit
from detrojan.models.factory import import_factory
from detrojan.models.families import advice, library_guesses
from detrojan.models.library_nets import is_library
from detrojan.models.matching import COUNTER, Order, Shape, countless, match, shapes_of
from detrojan.models.nets import NETS, Net, find_net
from detrojan.models.preprocessing import Preprocessing

log = logging.getLogger(__name__)

#: image sides that are tried, in this order, where a network takes any size and its weights fix it
SIDES = (28, 32, 64, 48, 96, 128, 224, 16, 20, 24, 40, 56, 80, 112, 160, 192, 256)
#: tensors that only models of text have
_OF_TEXT = re.compile(
    r"(^|\.)(word_embeddings|embed_tokens|wte|token_embedding(s|_table)?|tok_embeddings|lm_head)\."
)

#: types of numbers that PyTorch computes with as they are
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_REAL = {*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


#: values that are looked at together
_PIECE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the caller says about the network.

    Attributes:
        net: a name out of `nets`, or None.
        factory: "package.module:function", or None.
        classes: the number of classes the caller expects, or None.
        input_shape: (C, H, W), or None to take it from the weights.
        key: which of the networks in one file is meant, or None.

    """

    net: str | None = None
    factory: str | None = None
    classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a reader found: a network with its weights, and what its writer will need.

    Attributes:
        network: answers logits.
        input_shape: (C, H, W).
        format: the name of the format, e.g. "torch".
        net: name of the network or of the factory, or empty.
        details: for the writer.
        preprocessing: what the file states, or None.
        class_names: what the file states, or empty.
        notes: what was guessed of the network, for people.
        output: which of several outputs the file says is judged, or empty.

    """

    network: nn.Module
    input_shape: tuple[int, int, int]
    format: str
    net: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    output: str = ""

    @classmethod
    def of(cls, fitted: Fitted, kind: str, details: dict[str, Any]) -> Loaded:
        """Return a fitted network as a reader's result."""
        return cls(
            network=fitted.network,
            input_shape=fitted.input_shape,
            format=kind,
            net=fitted.net,
            details=details,
            preprocessing=fitted.preprocessing,
            notes=fitted.notes,
        )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A network filled with a file's tensors.

    Attributes:
        network: the network.
        input_shape: (C, H, W).
        net: name of the network or of the factory.
        keys: the file's key for each tensor of the network that came from the file.
        preprocessing: what the network's library states, or None.
        notes: what was guessed of the network, for people.

    """

    network: nn.Module
    input_shape: tuple[int, int, int]
    net: str
    keys: dict[str, str]
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


def check_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse tensors that a network cannot compute with.

    Raises:
        WeightsError: NaN or infinite values, or a tensor that is not dense real numbers.

    """
    for name, tensor in tensors.items():
        dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_complex()
        if not dense or tensor.is_meta or tensor.dtype not in _REAL:
            raise WeightsError(f"{where}: expected dense real numbers in {name!r}, got {tensor.dtype}")
        if tensor.is_floating_point() and not _is_finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{where}: expected finite weights, got {bad} NaN or infinite of {tensor.numel()} "
                f"values in {name!r}"
            )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether all values are finite, a piece at a time: the test takes memory of its own."""
    flat = tensor.reshape(-1)
    pieces = (flat[start : start + _PIECE] for start in range(0, len(flat), _PIECE))
    return all(bool(torch.isfinite(piece).all()) for piece in pieces)


def fit(
    tensors: Mapping[str, torch.Tensor], asked: Architecture, where: str, *, order: Order = "file"
) -> Fitted:
    """Find or build the network that the tensors belong to and fill it.

    Args:
        tensors: the file's tensors in the file's order, as PyTorch shapes them.
        asked: the network as the caller names it; identified by its tensors where he does not.
        where: the file, for error texts.
        order: which order of the tensors counts, see `matching.match`.

    Raises:
        WeightsError: the tensors do not fit the network, or are not finite.
        ModelError: no network, or several, fit; the factory fails.
        OptionError: an unknown network's name, a bad factory.

    """
    check_finite(tensors, where)
    if asked.factory is None and (text := next(filter(_OF_TEXT.search, tensors), None)) is not None:
        raise ModelError(f"{where}: detrojan judges image classifiers; {text!r} is a part of a text model")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if asked.factory is not None:
        found = _from_factory(asked.factory, shapes, asked, where, order=order)
    elif asked.net is not None and is_library(asked.net):
        found = from_library(find_net(asked.net), shapes, asked.input_shape, where, order=order)
    else:
        classes = _count_classes(shapes, asked, where)
        if asked.net is not None:
            found = _named(find_net(asked.net), shapes, classes, asked, where, order=order)
        else:
            found = _identify(shapes, classes, asked, where, order=order)
    _fill(found.network, {name: tensors[key] for name, key in found.keys.items()}, where)
    return Fitted(
        network=found.network,
        input_shape=found.shape,
        net=found.net,
        keys=found.keys,
        preprocessing=found.preprocessing,
        notes=found.notes,
    )


def _count_classes(shapes: dict[str, Shape], asked: Architecture, where: str) -> int:
    dense = [name for name, shape in shapes.items() if len(shape) == 2]
    if not dense:
        more = f"; {told}" if (told := advice(shapes)) else ""
        raise WeightsError(f"{where}: expected a linear layer that answers the classes, got none{more}")
    classes = shapes[dense[-1]][0]
    one_for_two = (asked.classes, classes) == (2, 1)
    if asked.classes is not None and asked.classes != classes and not one_for_two:
        raise WeightsError(
            f"{where}: class count: expected {asked.classes} classes as asked, got {classes} outputs in "
            f"the last linear layer {dense[-1]!r}"
        )
    return classes


def _count_channels(shapes: dict[str, Shape]) -> int | None:
    """Return what the narrowest kernel takes: the first one's, wherever it stands in the file."""
    return min((shape[1] for shape in shapes.values() if len(shape) == 4), default=None)


def _candidates(
    net: Net, shapes: dict[str, Shape], classes: int, asked: Architecture
) -> Iterator[tuple[tuple[int, int, int], nn.Module]]:
    """Yield the network, without weights, for each input shape that comes into question."""
    channels, height, width = net.shape
    channels = _count_channels(shapes) or channels
    options = [asked.input_shape or (channels, height, width)]
    if asked.input_shape is None and net.any_size:
        options += [(channels, side, side) for side in SIDES if (side, side) != (height, width)]
    for shape in options:
        with torch.device("meta"):
            yield shape, net.build(classes, shape)


def _try(
    net: Net, shapes: dict[str, Shape], classes: int, asked: Architecture, *, order: Order
) -> Candidate | list[str]:
    """Return the network fitted to the tensors, or what does not fit at its usual input size."""
    problems: list[str] | None = None
    for shape, network in _candidates(net, shapes, classes, asked):
        wanted = shapes_of(network)
        keys, by_name, wrong = match(wanted, shapes, order=order)
        if not wrong:
            return Candidate(net.name, shape, network, keys, by_name, shape == net.shape)
        problems = problems or wrong
        if sorted(map(len, wanted.values())) != sorted(map(len, countless(shapes).values())):
            break  # other tensors altogether: no input size can help
    return problems or ["nothing fits"]


def _named(
    net: Net, shapes: dict[str, Shape], classes: int, asked: Architecture, where: str, *, order: Order
) -> Candidate:
    found = _try(net, shapes, classes, asked, order=order)
    if isinstance(found, list):
        raise WeightsError(misfit(where, net.name, found))
    return found


def _identify(
    shapes: dict[str, Shape], classes: int, asked: Architecture, where: str, *, order: Order
) -> Candidate:
    tried = [_try(net, shapes, classes, asked, order=order) for net in NETS.values()]
    fits = [one for one in tried if isinstance(one, Candidate)]
    for better in ("usual", "by_name"):
        fits = [one for one in fits if getattr(one, better)] or fits
    names = [one.net for one in fits]
    if "mnist_cnn" in names:  # the same tensors whatever the pooling and whatever the images
        fits = [one for one in fits if one.net not in {"mnist_cnn_max", "badnets_cnn"}]
    if not fits and (guess := _guessed_of_library(shapes, asked, where)) is not None:
        return guess
    if len(fits) != 1:
        some = f"several fit: {', '.join(names)}" if fits else f"none of {', '.join(NETS)} fits"
        some += "; name it with --net or --factory PACKAGE.MODULE:CLASS (the code that makes it)"
        first, *_ = shapes.items()
        raise ModelError(
            f"{where}: expected weights that tell their network, got {len(shapes)} tensors beginning with "
            f"{first[0]!r} {first[1]}: {advice(shapes) or some}"
        )
    chosen = fits[0]
    log.info("%s: identified as %s for input %s by its tensors", where, chosen.net, chosen.shape)
    if chosen.net in {"mnist_cnn", "badnets_cnn"}:
        log.warning(
            "%s: taken as %s with average pooling; weights cannot tell it from max pooling: "
            "give --net mnist_cnn_max if the network was trained so",
            where,
            chosen.net,
        )
    return replace(chosen, notes=(f"{where}: {guessed(chosen)}",))


def _guessed_of_library(shapes: dict[str, Shape], asked: Architecture, where: str) -> Candidate | None:
    """Return the network of a library that tensors of these names and shapes are of, if one is installed."""
    for name in library_guesses(shapes):
        try:
            found = from_library(find_net(name), shapes, asked.input_shape, where, order="none")
        except (MissingExtraError, ModelError, OptionError):  # not installed, too old, or another network
            continue
        if found.by_name:
            log.info("%s: identified as %s by its tensors", where, name)
            return replace(found, notes=(f"{where}: {guessed(found)}",))
    return None


def _from_factory(
    spec: str, shapes: dict[str, Shape], asked: Architecture, where: str, *, order: Order
) -> Candidate:
    network = import_factory(spec)
    if asked.input_shape is None:
        raise ModelError(f"{where}: expected an input shape (C, H, W) for a network made by a factory")
    keys, by_name, wrong = match(shapes_of(network), shapes, order=order, whole=False)
    if wrong:
        raise WeightsError(misfit(where, spec, wrong))
    notes = () if by_name else (f"{where}: {PAIRED.format(spec)}",)
    return Candidate(spec, asked.input_shape, network, keys, by_name, usual=False, notes=notes)


def _fill(network: nn.Module, values: Mapping[str, torch.Tensor], where: str) -> None:
    """Put values into the network, which computes in float32; batch counters that the file lacks become 0.

    What can be taken as it lies in memory is not copied: a large network is not held twice.
    """
    network.float()
    taken = set[int]()
    for name, tensor in network.state_dict(keep_vars=True).items():
        if name in values:
            given = values[name].detach()
            if given.shape != tensor.shape:  # a batch counter: no others get here
                got = tuple(given.shape)
                raise WeightsError(f"{where}: expected one number as {name}, got the shape {got}")
            _put(network, name, _own(given, tensor.dtype, taken))
        elif name.endswith(COUNTER):
            _put(network, name, torch.zeros(tensor.shape, dtype=tensor.dtype))
        elif tensor.is_meta:
            _put(network, name, torch.empty(tensor.shape, dtype=tensor.dtype))


def _own(given: torch.Tensor, dtype: torch.dtype, taken: set[int]) -> torch.Tensor:
    """Return values that nothing else of the network shares: as they are, or a copy."""
    storage = given.untyped_storage()
    whole = given.is_contiguous() and storage.nbytes() == given.numel() * given.element_size()
    if whole and given.dtype == dtype and storage.data_ptr() not in taken:
        taken.add(storage.data_ptr())
        return given
    return given.to(dtype, copy=True).contiguous()


def _put(network: nn.Module, name: str, values: torch.Tensor) -> None:
    """Make values one of the network's tensors; where several names share one, they still do."""
    owner, _, last = name.rpartition(".")
    module = network.get_submodule(owner)
    held = getattr(module, last)
    if not held.is_meta:
        held.data = values
    elif isinstance(held, nn.Parameter):
        setattr(module, last, nn.Parameter(values, requires_grad=held.requires_grad))
    else:
        setattr(module, last, values)
