"""Loads ONNX files: parses them, builds their network, and compares it with ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from detrojan.errors import ModelError, OptionError
from detrojan.models.formats.onnx.build import Builder, refuse_unknown
from detrojan.models.formats.onnx.check import Entry, compare, made_up_images
from detrojan.models.formats.onnx.description import Description, describe
from detrojan.models.formats.onnx.ending import cut_endings
from detrojan.models.formats.onnx.entering import entries
from detrojan.models.formats.onnx.external import weight_files
from detrojan.models.formats.onnx.network import OnnxGraph
from detrojan.models.formats.onnx.parse import parse_onnx
from detrojan.models.formats.onnx.proto import onnx_library
from detrojan.models.formats.onnx.stated import class_names, preprocessing
from detrojan.models.formats.onnx.values import COUNTS
from detrojan.models.weights import Architecture, Loaded, check_finite
from detrojan.quarantine import quarantined

log = logging.getLogger(__name__)

#: how far the answers to one image may be from those to the same image among others
_NEARLY = 1e-3
#: no graph is worked out for more images at once
_MOST_IMAGES = 64


@dataclass(frozen=True)
class Built:
    """A network out of an ONNX graph.

    Attributes:
        network: the network, with all outputs that the graph has.
        builder: what made it.
        input_shape: (C, H, W).
        entry: how images become what the graph takes.

    """

    network: OnnxGraph
    builder: Builder
    input_shape: tuple[int, int, int]
    entry: Entry


def read_onnx(path: Path, asked: Architecture) -> Loaded:
    """Read an ONNX file.

    Raises:
        ModelError: damaged, an operator that is not known, or other outputs than ONNX Runtime has.
        UnsafeFileError: it names a file with weights that is no plain file beside it.
        WeightsError: weights that are not finite.
        OptionError: a network is named, but the file holds its own.
        MissingExtraError: the library that reads ONNX files is not installed.

    """
    if asked.net is not None or asked.factory is not None:
        raise OptionError(f"{path}: expected neither --net nor --factory: an ONNX file holds its own network")
    onnx_library()
    files = weight_files(path)
    beside = tuple(files.values())
    graph = describe(quarantined(parse_onnx, path, files, beside=beside), str(path))
    built = build(graph, asked.input_shape, str(path))
    check_finite(built.network.state_dict(), str(path))
    half = bool(graph.halves)
    whole = graph.whole_numbers
    entry = built.entry
    difference = compare(built.network, path, built.input_shape, entry, whole=whole, half=half, beside=beside)
    notes = [_compared(difference)]
    if files:
        notes.append(f"its weights lie in {_named(files)}; where it is written, it becomes one file")
    left_out = cut_endings(built.builder.network)
    if left_out:
        notes.append(f"it ends in a {' and a '.join(left_out)}, which is left out to judge its logits")
    if built.network.count:
        notes.append(f"its graph takes {built.network.count} images at once, so they are asked in turn")
    built.builder.network.drop_unused()
    return _loaded(built, graph, tuple(f"{path}: {note}" for note in notes))


def _loaded(built: Built, graph: Description, notes: tuple[str, ...]) -> Loaded:
    network, shape = built.network, built.input_shape
    kept = set(network.state_dict())
    slots, fixed = built.builder.slots, built.builder.fixed
    with torch.no_grad():
        answers = network.outputs(torch.zeros(1, *shape))
    classes = answers[0][0].numel() if len(answers) == 1 else 0
    return Loaded(
        network=network,
        input_shape=shape,
        format="onnx",
        details={
            "slots": {name: source for name, source in slots.items() if name in kept},
            "fixed": {name: value for name, value in fixed.items() if name in kept},
        },
        preprocessing=preprocessing(graph.metadata, shape[0], whole=graph.whole_numbers),
        class_names=class_names(graph.metadata, classes),
        notes=notes,
    )


def _named(files: Mapping[str, Path]) -> str:
    first, *more = files
    return f"{first} and {len(more)} other files" if more else first


def _compared(difference: float | None) -> str:
    if difference is None:
        return "its network was not compared with ONNX Runtime, which is not installed or does not run it"
    return f"its network's outputs differ from ONNX Runtime's by at most {difference:.1g} of the largest one"


def build(graph: Description, given: tuple[int, int, int] | None, where: str) -> Built:
    """Build the network of a graph.

    Args:
        graph: the graph.
        given: (C, H, W) as the caller says, for graphs that leave it open.
        where: the file, for error texts.

    Raises:
        ModelError: an operator that is not known, or a graph that contradicts itself.

    """
    refuse_unknown(graph, where)
    problems: list[ModelError] = []
    found = entries(graph, given, where)
    for shape, entry in found:
        try:
            return _for_any_number(graph, shape, entry, where)
        except ModelError as error:
            problems.append(error)
    batch = graph.batch or 1
    for shape, entry in found if batch <= _MOST_IMAGES else []:
        builder = Builder(graph, where, counts=(batch, batch))
        try:
            builder.run(shape, entry.order, entry.drop)
        except ModelError:
            continue
        log.info("%s: its graph takes %d images at once: %s", where, batch, problems[0])
        builder.network.eval()
        return Built(builder.network, builder, shape, replace(entry, batch=batch))
    raise problems[0]


def _for_any_number(graph: Description, shape: tuple[int, int, int], entry: Entry, where: str) -> Built:
    """Build a network that takes any number of images.

    Raises:
        ModelError: the graph does not work for any number, or mixes its images.

    """
    builder = Builder(graph, where, counts=COUNTS)
    builder.run(shape, entry.order, entry.drop)
    network = builder.network
    network.eval()
    images = made_up_images(shape, whole=graph.whole_numbers)[:3]
    with torch.no_grad():
        together = network.outputs(images)
        alone = network.outputs(images[1:2])
    for one, other in zip(together, alone, strict=True):
        if len(one) != len(images) or one[1:2].shape != other.shape:
            raise ModelError(f"{where}: expected one answer for each image, got {tuple(one.shape)} for three")
        furthest = (one[1:2].double() - other.double()).abs().max()
        if not bool(furthest <= _NEARLY * other.double().abs().max().clamp(min=1e-9)):
            raise ModelError(
                f"{where}: expected answers to images one by one, got some that depend on others"
            )
    return Built(network, builder, shape, entry)
