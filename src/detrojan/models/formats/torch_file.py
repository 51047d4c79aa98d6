"""PyTorch state dicts, read without running anything they contain, and written as they were."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.state_dict import filed_tensors, torch_details, unwrapped
from detrojan.models.formats.torch_content import holds_module, load_plain, with_the_rest
from detrojan.models.surgery.n_plus_one import NPlusOne
from detrojan.models.weights import Architecture, Loaded, check_finite, fit

log = logging.getLogger(__name__)

#: keys under which training scripts keep the weights, best first; decides between equally large ones
_USUAL_KEYS = ("state_dict", "model_state_dict", "net", "model", "network", "weights", "params")
_DEPTH = 5
_SHAPE = "expected an input shape (C, H, W) for a network out of a pickle"
#: no classifier is larger; above it the file is taken for an attack on our memory
MAX_BYTES = 4 << 30


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
        ModelError: damaged, TorchScript, or no tensors in it.
        WeightsError: the tensors do not fit the network.

    """
    if zipfile.is_zipfile(path):
        _refuse_script(path)
    content = _unpickle(path, asked, allow_unsafe=allow_unsafe)
    module = _find_module(content)
    if module is not None:
        return _whole_module(module, path, asked)
    nesting, tensors = _largest(content, path)
    bare = unwrapped(tensors)
    fitted = fit(bare, asked, str(path))
    details = torch_details(fitted, bare, tensors, nesting)
    return Loaded.of(fitted, "torch", details)


def _refuse_script(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        raise ModelError(
            f"{path}: expected a state dict, got TorchScript, a program with its weights; "
            f"save the weights alone: torch.save(model.state_dict(), file)"
        )
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise ModelError(f"{path}: expected at most {MAX_BYTES} bytes unpacked, got {size}")


def _unpickle(path: Path, asked: Architecture, *, allow_unsafe: bool) -> Any:
    try:
        return load_plain(path)
    except pickle.UnpicklingError as error:
        if not allow_unsafe:
            raise UnsafeFileError(_why_unsafe(path, str(error))) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{path}: damaged or cut off: {_first_line(error)}") from error
    if not (asked.net or asked.factory or asked.input_shape) and holds_module(path):
        raise ModelError(
            f"{path}: {_SHAPE}: name --input-shape, --net or --factory; the code in the file was not run"
        )
    log.warning("%s: running the code in this file, as --allow-unsafe says", path)
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's code may raise anything
        raise ModelError(f"{path}: its code failed: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _why_unsafe(path: Path, text: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", text)
    what = f"it calls {found.group(1)}" if found else "it holds more than plain tensors"
    return (
        f"{path}: expected a state dict of plain tensors, got a pickle that would run code when read "
        f"({what}); nothing was run. If you trust its author, --allow-unsafe loads it"
    )


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


def _dicts(content: Any, nesting: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if not isinstance(content, dict) or len(nesting) > _DEPTH:
        return
    yield (
        nesting,
        {
            key: value
            for key, value in content.items()
            if isinstance(key, str) and isinstance(value, torch.Tensor)
        },
    )
    for key, value in content.items():
        if isinstance(key, str):
            yield from _dicts(value, (*nesting, key))


def _largest(content: Any, path: Path) -> tuple[tuple[str, ...], dict[str, torch.Tensor]]:
    """Return the largest dict of tensors in the file, and the keys that lead to it."""

    def rank(found: tuple[tuple[str, ...], dict[str, torch.Tensor]]) -> tuple[int, int]:
        nesting, tensors = found
        usual = _USUAL_KEYS.index(nesting[-1]) if nesting and nesting[-1] in _USUAL_KEYS else 99
        return sum(tensor.numel() for tensor in tensors.values()), -usual

    nesting, tensors = max(_dicts(content), key=rank, default=((), {}))
    if not tensors:
        kind = type(content).__name__
        keys = f" with keys {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else ""
        raise ModelError(f"{path}: expected a dict of tensors, got {kind}{keys}")
    return nesting, tensors
