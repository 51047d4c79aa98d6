"""ONNX files as the library of their format reads them; nothing that they name is opened or run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detrojan.errors import ModelError
from detrojan.extras import require

#: no protobuf file is longer
MAX_BYTES = (1 << 31) - 1


def onnx_library() -> Any:
    """Import the library that reads ONNX files.

    Raises:
        MissingExtraError: it is not installed.

    """
    return require("onnx", extra="onnx", what="ONNX files")


def load_proto(path: Path) -> Any:
    """Read a file as it is; nothing in it is followed or run.

    Raises:
        ModelError: too long, damaged or cut off.

    """
    onnx = onnx_library()
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(f"{path}: expected an ONNX file of at most {MAX_BYTES} bytes, got {size}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # the library's errors depend on which implementation it uses
        raise ModelError(f"{path}: an ONNX file that is damaged or cut off: {error}") from error
    return model
