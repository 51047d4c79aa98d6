"""What every record that is written as JSON is made of: plain values, and a strict base."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def plain(value: Any) -> Any:
    """Return `value` as JSON values: no NaN, no tuples, no text that UTF-8 cannot hold."""
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if hasattr(value, "tolist"):  # a tensor or an array, of any number of dimensions
        return plain(value.tolist())
    return str(value).encode("utf-8", "backslashreplace").decode()


Number = Annotated[float | None, BeforeValidator(plain)]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(plain)]
Size = Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(plain)]
Words = Annotated[str, BeforeValidator(plain)]
Label = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Values = Annotated[dict[str, Any], BeforeValidator(plain)]


class Part(BaseModel):
    """Base of every piece of a report: unknown keys are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
