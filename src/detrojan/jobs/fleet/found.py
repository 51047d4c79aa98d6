"""A model that was found, and all that were; and what tells a model by its name or its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detrojan.errors import DetrojanError
from detrojan.jobs.fleet.feeding import Feeding
from detrojan.models.formats.base import Content, formats

#: endings that models have: such a file of a folder is one of the fleet, whether it can be read or not
ENDINGS = frozenset(
    [
        ".bin",
        ".caffemodel",
        ".ckpt",
        ".gguf",
        ".h5",
        ".hdf5",
        ".joblib",
        ".keras",
        ".mlmodel",
        ".model",
        ".msgpack",
        ".onnx",
        ".pb",
        ".pdparams",
        ".pickle",
        ".pkl",
        ".pt",
        ".pt2",
        ".pth",
        ".safetensors",
        ".t7",
        ".tflite",
        ".torchscript",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model that was found, and what is stated of it alone.

    Attributes:
        name: what people call it.
        path: its file or folder.
        stated: what a list says of how it is fed and judged.
        problem: why what a list or a registry says of it cannot be used, or empty.
        fetch: brings it here, where it lies elsewhere, and returns its file or folder; may raise what
            `DetrojanError` there is.

    """

    name: str
    path: Path
    stated: Feeding = field(default_factory=Feeding)
    problem: str = ""
    fetch: Callable[[], Path] | None = None


@dataclass
class Search:
    """What was found so far.

    Attributes:
        models: each once, in the order in which they were found.
        ignored: how many files are no models.
        without: a folder that is not looked into: the one of the results.

    """

    models: list[Found] = field(default_factory=list)
    ignored: int = 0
    without: Path | None = None
    _known: set[tuple[str, str]] = field(default_factory=set)

    def add(self, found: Found) -> None:
        """Add a model, unless it was found before."""
        place = (os.path.abspath(found.path), found.stated.model_dump_json(exclude_unset=True))  # noqa: PTH100
        if place not in self._known:
            self._known.add(place)
            self.models.append(found)


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder is one model."""
    content = Content(folder)
    try:
        return any(one.folder and one.recognises(content) for one in formats())
    except DetrojanError:
        return False
