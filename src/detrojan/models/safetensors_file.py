"""Reads safetensors files, and what ours say in their metadata about their network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier, Preprocessing
from detrojan.models.nets import NETS
from detrojan.models.weights import Architecture, Loaded, fit, torch_details, unwrapped

_KEY, _VERSION = "detrojan", 1
_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """What the metadata of one of our files say; nothing for a foreign file."""

    net: str = ""
    input_shape: tuple[int, int, int] | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()


def read_safetensors(path: Path, asked: Architecture) -> Loaded:
    """Read a .safetensors file; ours say in their metadata which network they are.

    Args:
        path: the file.
        asked: the network as the caller names it; goes before what the file says.

    Raises:
        ModelError: damaged, or its metadata contradict themselves.
        WeightsError: the tensors do not fit the network.

    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # the format loses the order of the tensors, so numbered layers are put in theirs
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys(), key=_natural)}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged or cut off: {error}") from error
    if not tensors:
        raise ModelError(f"{path}: expected tensors, got none")
    stated = _parse(metadata, path)
    bare = unwrapped(tensors)
    fitted = fit(bare, _completed(asked, stated, path), str(path))
    details = torch_details(fitted, bare, tensors, ())
    found = Loaded.of(fitted, "safetensors", details)
    return replace(found, preprocessing=stated.preprocessing, class_names=stated.class_names)


def _natural(key: str) -> tuple[list[tuple[int, str]], int]:
    """Sort layer 2 before layer 10, and a layer's tensors as PyTorch orders them."""
    owner, _, tensor = key.rpartition(".")
    parts = [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d{1,9})", owner)]
    return parts, _TENSORS.index(tensor) if tensor in _TENSORS else len(_TENSORS)


def _completed(asked: Architecture, stated: _Stated, path: Path) -> Architecture:
    """Fill in what the caller left open; a factory is never run because a file names it."""
    if asked.net is None and asked.factory is None and stated.net:
        if ":" in stated.net:
            raise ModelError(
                f"{path}: expected --factory, as the file was written from a network that {stated.net} "
                f"makes; code is run only if you name it"
            )
        if stated.net not in NETS:
            raise ModelError(f"{path}: expected a network out of {', '.join(NETS)}, got {stated.net!r}")
        asked = replace(asked, net=stated.net)
    return replace(asked, input_shape=asked.input_shape or stated.input_shape)


def _parse(metadata: Mapping[str, str], path: Path) -> _Stated:
    text = metadata.get(_KEY)
    if text is None:
        return _Stated()
    try:
        found: Any = json.loads(text)
        version = found["version"]
        if version != _VERSION:
            raise ModelError(f"{path}: expected metadata of version {_VERSION}, got {version!r}")
        channels, height, width = (int(side) for side in found["input_shape"])
        pre = dict(found["preprocessing"])
        for name in ("mean", "std"):
            pre[name] = tuple(float(value) for value in pre[name])
        pre["low"], pre["high"] = float(pre["low"]), float(pre["high"])
        if not all(map(math.isfinite, (*pre["mean"], *pre["std"], pre["low"], pre["high"]))):
            raise ModelError(f"{path}: expected a finite preprocessing, got {found['preprocessing']}")
        if pre["layout"] not in {"NCHW", "NHWC"}:
            raise ModelError(f"{path}: expected the layout NCHW or NHWC, got {pre['layout']!r}")
        return _Stated(
            net=str(found["net"]),
            input_shape=(channels, height, width),
            preprocessing=Preprocessing(**pre),
            class_names=tuple(str(name) for name in found["class_names"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ModelError(f"{path}: its metadata entry {_KEY!r} cannot be read: {error}") from error


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
    return {"format": "pt", _KEY: json.dumps(stated)}
