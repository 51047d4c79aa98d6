"""Safetensors files: the library checks them, and their bytes are handed on as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors

from detrojan.errors import ModelError
from detrojan.parsing.mapping import mapped

#: what the format calls the types of PyTorch
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16",
    "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64",
    "U64": "uint64", "C64": "complex64", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
_METADATA = "__metadata__"


def parse_safetensors(path: Path) -> dict[str, Any]:
    """Return what a safetensors file holds.

    Args:
        path: the file.

    Returns:
        `metadata`: texts by name. `tensors`: for each name its type as PyTorch calls it, its shape, and
        its bytes.

    Raises:
        ModelError: damaged or cut off, a name given twice, or a type that is not known.

    """
    try:
        with safetensors.safe_open(path, framework="np") as file:  # checks the head, and all places
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged or cut off: {error}") from error
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        head = json.loads(stream.read(length), object_pairs_hook=lambda pairs: _once(pairs, path))
        content, found = mapped(stream), {}
        for name, said in head.items():
            if name != _METADATA:
                dtype = DTYPES.get(said["dtype"])
                if dtype is None:
                    raise ModelError(
                        f"{path}: expected a known type of numbers in {name!r}, got {said['dtype']!r}"
                    )
                start, end = (8 + length + place for place in said["data_offsets"])
                values = content[start:end]
                if len(values) != end - start:
                    raise ModelError(f"{path}: damaged or cut off: it ends in {name!r}")
                found[name] = (dtype, said["shape"], values)
    return {"metadata": metadata, "tensors": found}


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"{path}: expected each name once, got {twice!r:.80} twice")
    return found
