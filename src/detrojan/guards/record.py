"""What `guard.json` holds: which guard of which model it is, and the files that belong to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from detrojan.errors import DataError
from detrojan.files import read_bounded
from detrojan.records import Finite, Part, wrong_places

VALUES, TENSORS = "guard.json", "guard.safetensors"
#: where version 2 described the model
OLD_MODEL = "model.json"
_OLD_SCHEMA = "detrojan.guard/2"
#: no guard's values are longer
_MOST_BYTES = 1 << 24


class Named(Part):
    """A file of the folder; `sha256` is empty where version 2 wrote it."""

    file: str
    sha256: str


class NamedModel(Named):
    """The model's file, and how the network is built and fed, as `models.metadata` writes it."""

    metadata: dict[str, str]


class GuardRecord(Part):
    """What `guard.json` holds.

    `network` and `preprocessing` tell for which model the guard is; `values` belong to its kind. `model`
    is null where the guard was saved without its model.
    """

    schema_: Literal["detrojan.guard/3"] = Field(default="detrojan.guard/3", alias="schema")
    kind: str
    hyper_parameters: dict[str, Any]
    threshold: Finite
    warnings: list[str]
    network: str
    preprocessing: str
    tensors: Named
    model: NamedModel | None = None
    values: dict[str, Any]


def read_record(folder: str | Path) -> GuardRecord:
    """Return what a guard's `guard.json` says, its types checked.

    Raises:
        DataError: no guard there, or one that is damaged.

    """
    path = Path(folder) / VALUES
    try:
        value = json.loads(read_bounded(path, _MOST_BYTES, DataError))
    except OSError as error:
        raise DataError(
            f"expected the folder of a guard, as `detrojan guard calibrate` writes it; "
            f"{path} cannot be read: {error.strerror or error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a guard's JSON: {error}") from error
    schema = value.get("schema") if isinstance(value, dict) else type(value).__name__
    if schema == _OLD_SCHEMA:
        value = _from_version_2(value, path.parent)
    elif schema != GuardRecord.model_fields["schema_"].default:
        raise DataError(f"{path}: expected the schema detrojan.guard/3, got {schema!r:.80}")
    try:
        return GuardRecord.model_validate(value, strict=True)
    except ValidationError as error:
        raise DataError(f"{path}: not a valid guard: {wrong_places(error)}") from error


def _from_version_2(value: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values as version 3 has them; the model was described by a file of its own."""
    path, model = folder / OLD_MODEL, None
    try:
        described = json.loads(read_bounded(path, _MOST_BYTES, DataError))
        model = {"file": str(described["file"]), "metadata": dict(described["metadata"]), "sha256": ""}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the description of a guarded model: {type(error).__name__}"
        ) from error
    tensors = {"file": TENSORS, "sha256": ""}
    return {**value, "schema": "detrojan.guard/3", "tensors": tensors, "model": model}
