"""PyTorch state dicts, read without running anything they contain, and written as they were."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.parts import first_that_fits, fit_part
from detrojan.models.formats.state_dict import filed_tensors, stored_tensors, torch_details, unwrapped
from detrojan.models.formats.torch_content import holds_module, with_the_rest
from detrojan.models.surgery.n_plus_one import NPlusOne
from detrojan.models.weights import Architecture, Fitted, Loaded, check_finite, fit
from detrojan.parsing.torch_file import largest_dict, parse_torch
from detrojan.quarantine import quarantined

log = logging.getLogger(__name__)

_SHAPE = "expected an input shape (C, H, W) for a network out of a pickle"


class TorchFile(Format):
    """What torch.save wrote."""

    name = "torch"
    kind = "a PyTorch state dict (.pt, .pth, .tar)"
    listed = (
        (
            ".pt .pth .tar",
            "PyTorch state dict, read without running code; --net, --factory, or guessed from its tensors",
        ),
    )
    suffixes = (".pt", ".pth", ".tar", ".ckpt", ".bin")
    precedence = 30

    def recognises(self, content: Content) -> bool:
        """Tell whether a file is a pickle, or a zip with one in it."""
        if content.is_zip:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in content.names)
        return re.match(rb"\x80[\x02-\x05]", content.head) is not None

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read a state dict, possibly nested."""
        return read_torch(path, asked, allow_unsafe=allow_unsafe)

    def endings(self, model: Classifier) -> tuple[str, ...]:
        """Return all endings; none for a model of N + 1 classes, whose two networks no state dict tells."""
        return () if isinstance(model.network, NPlusOne) else self.suffixes

    def write(self, model: Classifier, path: Path) -> None:
        """Write the weights with the keys, types and nesting of their file, and all else that was in it."""
        content = filed_tensors(model)
        if model.origin.format == self.name and "keys" in model.origin.details:
            nesting, tensors = model.origin.details["nesting"], content
            for key in nesting:
                tensors = tensors[key]
            content = with_the_rest(tensors, nesting, Path(model.origin.path)) or content
        torch.save(content, path)


def read_torch(path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
    """Read a file that torch.save wrote: a state dict, possibly nested.

    Args:
        path: the file.
        asked: the network as the caller names it.
        allow_unsafe: also run the code of files that cannot be read without.

    Raises:
        UnsafeFileError: reading it would run code from the file, and nobody allowed that.
        ModelError: damaged, or no tensors in it.
        WeightsError: the tensors do not fit the network.

    """
    try:
        found = quarantined(parse_torch, path, asked.key)
    except UnsafeFileError:
        if not allow_unsafe:
            raise
        return _read_unsafe(path, asked)
    networks = list(found["networks"])
    if asked.key is None and len(networks) > 1 and "" not in networks:
        return _one_of(networks, path, asked)
    return _fitted(_stored(found, path), tuple(found["nesting"]), path, asked, networks)


def _stored(found: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    return stored_tensors(found["tensors"], found["storages"], str(path))


def _one_of(networks: list[str], path: Path, asked: Architecture) -> Loaded:
    """Read that one of several networks which fits."""
    nestings: dict[str, tuple[str, ...]] = {}

    def attempt(key: str) -> tuple[Fitted, dict[str, torch.Tensor]]:
        found = quarantined(parse_torch, path, key)
        nestings[key], tensors = tuple(found["nesting"]), _stored(found, path)
        return fit(unwrapped(tensors), asked, str(path)), tensors

    key, fitted, tensors, note = first_that_fits(networks, attempt, str(path))
    details = torch_details(fitted, unwrapped(tensors), tensors, nestings[key])
    return Loaded.of(replace(fitted, notes=(*fitted.notes, note)), "torch", details)


def _fitted(
    tensors: dict[str, torch.Tensor],
    nesting: tuple[str, ...],
    path: Path,
    asked: Architecture,
    networks: Sequence[str] = (),
) -> Loaded:
    if asked.key is not None and ".".join(nesting) == asked.key:
        asked = replace(asked, key=None)
    fitted, bare, own = fit_part(tensors, asked, str(path), networks=networks)
    return Loaded.of(fitted, "torch", torch_details(fitted, bare, own, nesting))


def _read_unsafe(path: Path, asked: Architecture) -> Loaded:
    """Run the code in a file whose author is trusted."""
    if not (asked.net or asked.factory or asked.input_shape) and holds_module(path):
        raise ModelError(
            f"{path}: {_SHAPE}: name --input-shape, --net or --factory; the code in the file was not run"
        )
    log.warning("%s: running the code in this file, as --allow-unsafe says", path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's code may raise anything
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: its code failed: {type(error).__name__}: {said}") from error
    module = _find_module(content)
    if module is not None:
        return _whole_module(module, path, asked)
    nesting, tensors = largest_dict(
        content, lambda value: isinstance(value, torch.Tensor), lambda tensor: tensor.numel(), str(path)
    )
    return _fitted(tensors, nesting, path, asked)


def _find_module(content: Any) -> nn.Module | None:
    """Return a pickled network; only files that were allowed to run code can hold one."""
    if isinstance(content, dict):
        content = next((value for value in content.values() if isinstance(value, nn.Module)), content)
    return content if isinstance(content, nn.Module) else None


def _whole_module(module: nn.Module, path: Path, asked: Architecture) -> Loaded:
    if asked.net or asked.factory:
        tensors = dict(module.state_dict())
        fitted = fit(unwrapped(tensors), asked, str(path))
        return Loaded.of(fitted, "torch", {})
    if asked.input_shape is None:
        raise ModelError(f"{path}: {_SHAPE}")
    check_finite(module.state_dict(), str(path))
    return Loaded(network=module, input_shape=asked.input_shape, format="torch")
