"""What a Hugging Face folder is, and how it becomes a model and a folder again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.huggingface.build import build, first_line
from detrojan.models.formats.huggingface.config import checked, class_names, image_sizes, is_timm
from detrojan.models.formats.huggingface.files import CONFIG, PROCESSOR, read_json, read_weights, used_files
from detrojan.models.formats.huggingface.processor import Size, preprocessing_of
from detrojan.models.formats.huggingface.timm_folder import build_timm, timm_preprocessing
from detrojan.models.formats.huggingface.write import write_folder
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.weights import Architecture, Loaded

#: the side of a picture where nothing says another
_USUAL = (224, 224)
_KEY = "huggingface"


class HuggingFaceFolder(Format):
    """A folder as transformers and timm write it for an image classifier."""

    name = "huggingface"
    kind = "a Hugging Face folder (config.json)"
    listed = (
        (
            "folder/",
            "Hugging Face: an image classifier of transformers or timm (config.json, weights); runs no code",
        ),
    )
    folder = True
    copies = True

    def recognises(self, content: Content) -> bool:
        """Tell whether there is a config.json, and none of the other files of an unpacked Keras archive."""
        return CONFIG in content.names and "model.weights.h5" not in content.names

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the config, the weights and what says how pictures are prepared."""
        return used_files(path)

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read a folder; nothing in it is run, and nothing is fetched, whatever `allow_unsafe` says."""
        where = str(path)
        config = checked(read_json(path, CONFIG), where)
        names, tensors = class_names(config, where), read_weights(path)
        preprocessing, size, notes = _stated(path, config)
        found = _built(config, tensors, asked, size, where)
        framing = preprocessing.framing
        if framing is not None and size is not None and found.input_shape[1:] != size:
            preprocessing = replace(preprocessing, framing=None)
        return replace(
            found,
            preprocessing=preprocessing,
            class_names=names,
            notes=notes,
            details={"described": {_KEY: config}, "names": tuple(found.network.state_dict())},
        )

    def described(
        self, tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], asked: Architecture, where: str
    ) -> Loaded | None:
        """Build a network from its config.json, which a file of another format holds."""
        config = said.get(_KEY)
        if config is None:
            return None
        if not isinstance(config, dict):
            raise ModelError(f"{where}: expected a config.json in its metadata, got {type(config).__name__}")
        found = _built(checked(config, where), tensors, asked, None, where)
        return replace(found, details={"described": {_KEY: config}})

    def write(self, model: Classifier, path: Path) -> None:
        """Write a folder with other weights; the texts of the first are copied."""
        write_folder(model, path)


def _stated(path: Path, config: Mapping[str, Any]) -> tuple[Preprocessing, Size | None, tuple[str, ...]]:
    """Return how pictures are prepared, and what a person has to know where nothing says it."""
    if is_timm(config):
        return *timm_preprocessing(config, str(path)), ()
    if (path / PROCESSOR).exists():
        return *preprocessing_of(read_json(path, PROCESSOR), str(path / PROCESSOR)), ()
    note = f"{path}: no {PROCESSOR} says how its pictures are prepared; taken as 0 to 1, not normalised"
    return Preprocessing(), None, (f"{note} (--mean and --std state it)",)


def _built(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    asked: Architecture,
    size: Size | None,
    where: str,
) -> Loaded:
    """Return the network, for the first input size in question that it takes."""
    network = build_timm(config, tensors, where) if is_timm(config) else build(config, tensors, where)
    channels, stated = image_sizes(config)
    if asked.input_shape is not None:
        shapes = [asked.input_shape]
    else:
        shapes = [(channels, *one) for one in dict.fromkeys((size, stated, _USUAL)) if one is not None]
    return Loaded(network=network, input_shape=_first_that_runs(network, shapes, where), format="huggingface")


def _first_that_runs(
    network: nn.Module, shapes: list[tuple[int, int, int]], where: str
) -> tuple[int, int, int]:
    problems = []
    for shape in shapes:
        try:
            with torch.no_grad():
                network(torch.zeros(1, *shape))
        except Exception as error:  # noqa: BLE001 - a network may raise anything at another size
            problems.append(f"{shape}: {first_line(error)}")
        else:
            return shape
    raise ModelError(f"{where}: expected a network that runs on its own input size, got {problems[0]}")
