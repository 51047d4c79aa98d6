"""Imports optional libraries, and says how to install one that is missing."""

from __future__ import annotations

import importlib
from typing import Any

from detrojan.errors import MissingExtraError


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional library when it is needed.

    Args:
        module: its name, e.g. "onnx"; or that of a part, e.g. "onnx.numpy_helper".
        extra: the extra of this package that installs it.
        what: what needs it, for people, e.g. "ONNX files".

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed; the message holds the command that installs it.

    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # it is there, and something that it needs itself is not
        raise MissingExtraError(library, extra, what) from error
