"""Writes a model in the kind of file it came in, so that its owner can use it as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from detrojan.errors import ModelError, WeightsError
from detrojan.files import replacing
from detrojan.models.classifier import Classifier
from detrojan.models.formats.keras.write import SUFFIXES, write_keras
from detrojan.models.loading import file_sha256
from detrojan.models.metadata import metadata_of
from detrojan.models.surgery.n_plus_one import NPlusOne
from detrojan.models.weights import check_finite

_SAFETENSORS = ".safetensors"
_STATE_DICT = (".pt", ".pth", ".tar", ".ckpt", ".bin")


def save_model(model: Classifier, path: str | Path) -> Path:
    """Write a model, in the kind of file it came in, in one step: the file is whole or not there.

    A Keras file is copied with its arrays replaced, so that plain Keras loads it. A PyTorch model is
    written as a state dict with the keys its file had, or as safetensors if the path says so; one made
    in memory likewise. A model of N + 1 classes is always written as safetensors. Our safetensors
    files say which network they are, so `load_model` needs no name.

    Args:
        model: the model.
        path: where to write it; its suffix has to suit the kind of file.

    Returns:
        The path.

    Raises:
        ModelError: a suffix of another kind, the path of the original, or an original that is gone.
        WeightsError: the network is no longer the one of its file, or has weights that are not finite.

    """
    path = Path(path)
    _check_suffix(model, path)
    original = Path(model.origin.path) if model.origin.path else None
    if original is not None and _same_file(original, path):
        raise ModelError(f"expected another path than the original {original}, which is never overwritten")
    check_finite(model.network.state_dict(), "the model to be written")
    if model.origin.format == "keras":
        assert original is not None
        _check_original(model, original)
        _atomically(path, lambda temporary: write_keras(model, original, temporary))
    elif path.suffix.lower() == _SAFETENSORS:
        _atomically(path, lambda temporary: _write_safetensors(model, temporary))
    else:
        _atomically(path, lambda temporary: torch.save(_state_dict(model), temporary))
    return path


def _check_suffix(model: Classifier, path: Path) -> None:
    name = path.name.lower()
    if isinstance(model.network, NPlusOne):
        if not name.endswith(_SAFETENSORS):
            raise ModelError(
                f"expected a path that ends in {_SAFETENSORS} for a model of N + 1 classes, got {path.name!r}"
            )
        return
    if model.origin.format != "keras":
        allowed: tuple[str, ...] = (_SAFETENSORS, *_STATE_DICT)
        fits = name.endswith(allowed)
    else:
        kind = model.origin.details["kind"]
        allowed = SUFFIXES[kind]
        fits = name.endswith(allowed)
        if fits and kind != "weights.h5" and name.endswith(".weights.h5"):
            # by this name Keras 3 expects its own layout; the owner of such a file knows better
            fits = model.origin.path.lower().endswith(".weights.h5")
            allowed = (f"{allowed[0]} (not .weights.h5, by which Keras expects another layout)",)
    if not fits:
        raise ModelError(
            f"expected a path that ends in {', '.join(allowed)} for a model of the format "
            f"{model.origin.format}, got {path.name!r}"
        )


def _same_file(original: Path, path: Path) -> bool:
    try:
        return path.exists() and original.exists() and path.samefile(original)
    except OSError:
        return path.absolute() == original.absolute()


def _check_original(model: Classifier, original: Path) -> None:
    if not original.is_file():
        raise ModelError(f"expected the original {original} to copy its structure from, but it is gone")
    digest = file_sha256(original)
    if digest != model.origin.sha256:
        raise ModelError(
            f"expected the original {original} as it was read (SHA-256 {model.origin.sha256[:12]}...), "
            f"got another file (SHA-256 {digest[:12]}...)"
        )


def _atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a file beside `path` and rename it, so that nobody ever sees half a model."""
    try:
        with replacing(path) as scratch:
            write(scratch)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from error


def _tensors(model: Classifier) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.network.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }


def _write_safetensors(model: Classifier, path: Path) -> None:
    safetensors.torch.save_file(_tensors(model), path, metadata_of(model))


def _state_dict(model: Classifier) -> dict[str, Any]:
    """Return the tensors under the keys, in the types and in the nesting that the file had."""
    tensors = _tensors(model)
    details = model.origin.details
    keys: dict[str, str] = details.get("keys", {})
    if not keys:
        return tensors
    missing = sorted(keys.keys() - tensors.keys())
    more = sorted(n for n in tensors.keys() - keys.keys() if not n.endswith("num_batches_tracked"))
    if missing or more:
        raise WeightsError(
            f"expected the network that came out of {model.origin.path}, "
            f"got one without {missing[:3]} and with {more[:3]}"
        )
    content: dict[str, Any] = {key: tensors[name].to(details["dtypes"][name]) for name, key in keys.items()}
    for key in reversed(details["nesting"]):
        content = {key: content}
    return content
