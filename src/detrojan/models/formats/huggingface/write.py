"""Writes a Hugging Face folder: the texts of the first one, and weights under the names of its file."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from detrojan.errors import ModelError
from detrojan.models.answers import inner_of
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import check_same_network
from detrojan.models.formats.huggingface.build import offline
from detrojan.models.formats.huggingface.files import (
    INDEX,
    WHOLE,
    parse_weights,
    plain_file,
    weight_files,
)
from detrojan.models.formats.state_dict import tensors_of

#: what is copied: texts. Weights of other libraries are those of the first network, and code is not ours.
_TEXTS = (".json", ".txt", ".md", ".yaml", ".yml", "")
_MOST_BYTES = 1 << 24


def write_folder(model: Classifier, folder: Path) -> None:
    """Write a model that came as a Hugging Face folder to an empty folder.

    Weights that were spread over several files are so again. A pickle becomes model.safetensors.

    Raises:
        WeightsError: the network is no longer the one of its folder.
        OSError: the folder cannot be written.

    """
    original = Path(model.origin.path)
    check_same_network(model, model.origin.details["names"])
    tensors, names = _filed(model, folder), weight_files(original)
    before = {name: parse_weights(original / name) for name in names}
    every = {key: value for file in before.values() for key, value in file.items()}
    fits = tensors.keys() <= every.keys()  # not so for names that only older versions of the library wrote
    if fits and all(name.endswith(".safetensors") for name in names):
        for name, file in before.items():
            ours = {key: tensors[key] for key in file if key in tensors}
            _save({**file, **_as_before(ours, file)}, folder / name, _metadata(original / name))
        _copy_texts(original, folder, without=())
        return
    rest = every if fits else {}
    _save({**rest, **_as_before(tensors, rest)}, folder / WHOLE[0], {"format": "pt"})
    _copy_texts(original, folder, without=INDEX)


def _filed(model: Classifier, folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights under the names that the library's own files have."""
    save = getattr(inner_of(model.network), "save_pretrained", None)
    if save is None:  # one of timm's, whose names are those of its file
        return tensors_of(model)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, offline():
        save(scratch, max_shard_size="100TB")
        return parse_weights(Path(scratch) / WHOLE[0])


def _as_before(tensors: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors in the types that the file had."""
    return {key: value.to(before[key].dtype) if key in before else value for key, value in tensors.items()}


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    alone = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    safetensors.torch.save_file(alone, path, metadata)


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {"format": "pt"})


def _copy_texts(original: Path, folder: Path, *, without: tuple[str, ...]) -> None:
    for entry in original.iterdir():
        if entry.suffix.lower() not in _TEXTS or entry.name in without:
            continue
        with suppress(ModelError):  # no plain file, or a link that leads elsewhere
            if plain_file(original, entry.name).stat().st_size <= _MOST_BYTES:
                shutil.copyfile(entry, folder / entry.name)
