"""What all records share: keys that are there only where they were set, and how a record is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from detrojan.files import save_text
from detrojan.records import Part


class Sparse(Part):
    """A part without the keys that nobody set: what a call did not ask for is left out, not null."""

    @model_serializer(mode="wrap")
    def _what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unset = {
            field.alias or name
            for name, field in type(self).model_fields.items()
            if name not in self.model_fields_set and field.default is None
        }
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name not in unset}


class Record(Sparse):
    """The result of one call; its `schema` says of which verb."""

    def values(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """Return the record as JSON text, ASCII only, without NaN."""
        return json.dumps(self.values(), indent=2, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write the JSON to `path`, whole or not at all.

        Raises:
            InputError: the file cannot be written.

        """
        return save_text(path, self.to_json() + "\n")
