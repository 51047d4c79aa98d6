"""Reads the file MLmodel of a folder that MLflow wrote: where the weights of each flavour lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detrojan.errors import ModelError
from detrojan.extras import require
from detrojan.files import read_bounded

#: how MLflow calls the file
NAME = "MLmodel"
#: what a flavour may call the file or folder of its weights, the most telling first
_KEYS = (
    "model_data",
    "model_binary",
    "pickled_model",
    "saved_model_dir",
    "data",
    "python_model",
    "model_path",
)
#: the flavour that only repeats what another one says, where there is another one
_LAST = "python_function"
#: bytes; a signature of many columns is long too
LARGEST = 4 << 20


def parse_mlmodel(path: Path) -> list[tuple[str, str]]:
    """Return each flavour that names its weights, with the path that it names, the most telling first.

    Args:
        path: the file MLmodel.

    Raises:
        ModelError: no YAML, too long, or no list of flavours.
        MissingExtraError: PyYAML is not installed.

    """
    yaml = require("yaml", extra="mlflow", what="registries of MLflow")
    try:
        text = read_bounded(path, LARGEST, ModelError).decode("utf-8")
        tree: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path}: expected YAML: {' '.join(str(error).split())[:200]}") from error
    flavours = tree.get("flavors") if isinstance(tree, dict) else None
    if not isinstance(flavours, dict):
        raise ModelError(f"{path}: expected a table called 'flavors', got none")
    named = [(str(name), said) for name, said in flavours.items() if isinstance(said, dict)]
    named.sort(key=lambda one: one[0] == _LAST)
    return [(name, said[key]) for name, said in named for key in _KEYS if isinstance(said.get(key), str)]
