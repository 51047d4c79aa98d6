"""What our own safetensors files say about their network, so that nobody has to name it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from detrojan.errors import ModelError
from detrojan.models.answers import output_of
from detrojan.models.classifier import Classifier
from detrojan.models.library_nets import is_library
from detrojan.models.nets import NETS, is_net
from detrojan.models.preprocessing import Framing, Preprocessing
from detrojan.models.weights import Architecture

_KEY, _VERSION = "detrojan", 1
#: no image that a classifier takes has a longer side, or more values
_LONGEST, _MOST_VALUES = 4096, 1 << 26


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the metadata of one of our files say; nothing for a foreign file.

    Attributes:
        net: name of the network or of the factory, or empty.
        input_shape: (C, H, W), or None.
        preprocessing: from [0, 1] to what the network wants, or None.
        class_names: one per class, or empty.
        n_plus_one: for a model of N + 1 classes what is said of its two networks, else None.
        described: how a network that has no name is built, as its format says it, or None.
        output: which of several outputs of the network is judged, or empty.

    """

    net: str = ""
    input_shape: tuple[int, int, int] | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    n_plus_one: dict[str, Any] | None = None
    described: dict[str, Any] | None = None
    output: str = ""


def completed(
    asked: Architecture, net: str, input_shape: tuple[int, int, int] | None, where: str | Path
) -> Architecture:
    """Fill in what the caller left open; a factory is never run because a file names it.

    Raises:
        ModelError: the file names a factory, or a network that we do not know.

    """
    if asked.net is None and asked.factory is None and net:
        if ":" in net and not is_library(net):
            raise ModelError(
                f"{where}: expected --factory, as the file was written from a network that {net} "
                f"makes; code is run only if you name it"
            )
        if not is_net(net):
            raise ModelError(f"{where}: expected a network out of {', '.join(NETS)}, got {net!r}")
        asked = replace(asked, net=net)
    return replace(asked, input_shape=asked.input_shape or input_shape)


def parse_metadata(metadata: Mapping[str, str], path: Path) -> Stated:
    """Return what a file's metadata say.

    Raises:
        ModelError: they are ours, but cannot be read or make no sense.

    """
    text = metadata.get(_KEY)
    if text is None:
        return Stated()
    try:
        found: Any = json.loads(text)
        version = found["version"]
        if version != _VERSION:
            raise ModelError(f"{path}: expected metadata of version {_VERSION}, got {version!r}")
        two, described = found.get("n_plus_one"), found.get("described")
        if two is not None and not isinstance(two, dict):
            raise ModelError(f"{path}: expected two networks of a model of N + 1 classes, got {two!r:.60}")
        if described is not None and not isinstance(described, dict):
            raise ModelError(f"{path}: expected the description of a network, got {described!r:.60}")
        return Stated(
            net=str(found["net"]),
            input_shape=_input_shape(found["input_shape"], path),
            preprocessing=_preprocessing(found["preprocessing"], path),
            class_names=tuple(str(name) for name in found["class_names"]),
            n_plus_one=two,
            described=described,
            output=str(found.get("output", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{path}: its metadata entry {_KEY!r} cannot be read: {error}") from error


def _input_shape(value: Any, path: Path) -> tuple[int, int, int]:
    channels, height, width = (int(side) for side in value)
    sides = (channels, height, width)
    if not all(1 <= side <= _LONGEST for side in sides) or math.prod(sides) > _MOST_VALUES:
        raise ModelError(f"{path}: expected sides of an image of 1 to {_LONGEST}, got {sides}")
    return sides


def _preprocessing(value: Any, path: Path) -> Preprocessing:
    pre = dict(value)
    for name in ("mean", "std"):
        pre[name] = tuple(float(number) for number in pre[name])
    pre["low"], pre["high"] = float(pre["low"]), float(pre["high"])
    if not all(map(math.isfinite, (*pre["mean"], *pre["std"], pre["low"], pre["high"]))):
        raise ModelError(f"{path}: expected a finite preprocessing, got {value}")
    if pre["layout"] not in {"NCHW", "NHWC"}:
        raise ModelError(f"{path}: expected the layout NCHW or NHWC, got {pre['layout']!r}")
    if (framing := pre.get("framing")) is not None:
        sides = {
            name: value if value is None or isinstance(value, int) else tuple(map(int, value))
            for name in ("resize", "crop")
            for value in [framing[name]]
        }
        pre["framing"] = Framing(**{**framing, **sides})
    return Preprocessing(**pre)


def metadata_of(model: Classifier) -> dict[str, str]:
    """Return the metadata that let `read_safetensors` read the model without being told its network."""
    stated = {
        "version": _VERSION,
        "net": model.origin.net,
        "classes": model.num_classes,
        "input_shape": list(model.input_shape),
        "preprocessing": asdict(model.preprocessing),
        "class_names": list(model.class_names),
    }
    output = model.origin.details.get("output") if model.answers_only else output_of(model.network)
    if output:
        stated["output"] = output
    for more in ("n_plus_one", "described"):
        if more in model.origin.details:
            stated[more] = model.origin.details[more]
    return {"format": "pt", _KEY: json.dumps(stated)}
