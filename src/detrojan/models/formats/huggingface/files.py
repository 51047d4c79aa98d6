"""The files of a Hugging Face folder: which are read, and what is in them. Nothing is executed."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors
import torch

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.files import file_in
from detrojan.quarantine import quarantined

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
#: where the weights may be, best first; an index names the files that they are spread over
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEX = tuple(f"{name}.index.json" for name in WHOLE)
#: no text of a model is longer
_MOST_BYTES = 1 << 24


def plain_file(folder: Path, name: str) -> Path:
    """Return the path of a file in the folder.

    Raises:
        ModelError: it is not there, is no plain file, or lies elsewhere.

    """
    return file_in(folder, name, ModelError, missing=ModelError)


def weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files that hold the weights.

    Raises:
        ModelError: there are none, or an index that makes no sense.

    """
    for whole, index in zip(WHOLE, INDEX, strict=True):
        if (folder / whole).exists():
            return (whole,)
        if (folder / index).exists():
            names = read_json(folder, index).get("weight_map")
            found = set(names.values()) if isinstance(names, dict) else set[Any]()
            if not found or not all(isinstance(name, str) for name in found):
                raise ModelError(f"{folder / index}: expected a weight_map that names files")
            return tuple(sorted(found))
    raise ModelError(f"{folder}: expected the weights as {WHOLE[0]} or {WHOLE[1]}, got neither")


def used_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that a model is read from."""
    names = [CONFIG, *weight_files(folder)]
    names += [name for name in (PROCESSOR, *INDEX) if (folder / name).exists()]
    return tuple(plain_file(folder, name) for name in names)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return what a JSON file says.

    Raises:
        ModelError: it is not there, or holds no JSON object.

    """
    path = plain_file(folder, name)
    found = quarantined(parse_json, path)
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def parse_json(path: Path) -> Any:
    """Return the values of a JSON file."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path}: expected at most {_MOST_BYTES:,} bytes")
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected JSON: {error}") from error


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of all files that hold weights.

    Raises:
        ModelError: damaged, empty, or a tensor that is there twice.
        UnsafeFileError: a pickle with more than tensors.

    """
    found: dict[str, torch.Tensor] = {}
    for name in weight_files(folder):
        path = plain_file(folder, name)
        tensors: dict[str, torch.Tensor] = quarantined(parse_weights, path)
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise ModelError(f"{path}: expected each tensor once, got {twice[0]!r} again")
        found.update(tensors)
    if not found:
        raise ModelError(f"{folder}: expected tensors, got none")
    return found


def parse_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of one file."""
    if path.name.endswith(".safetensors"):
        try:
            with safetensors.safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: damaged or cut off: {error}") from error
    try:
        with warnings.catch_warnings():  # PyTorch warns of pickles that it then refuses
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"{path}: expected plain tensors, got a pickle that would run code when read; nothing was run"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{path}: damaged or cut off: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a dict of tensors, got {type(found).__name__}")
    return {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
