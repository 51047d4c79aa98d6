"""What every record that is written as JSON is made of: plain values, and a strict base."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


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
Finite = Annotated[float, Field(allow_inf_nan=False)]
Words = Annotated[str, BeforeValidator(plain)]
Label = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Values = Annotated[dict[str, Any], BeforeValidator(plain)]


class Part(BaseModel):
    """Base of every piece of a report: unknown keys are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def wrong_places(error: ValidationError, whole: str = "record", most: int = 3) -> str:
    """Return the first places that do not keep to a schema, each with what was expected there."""
    wrong = [
        f"{'.'.join(map(str, item['loc'])) or whole}: "
        + (
            "there is no such key"
            if item["type"] == "extra_forbidden"
            else item["msg"].removeprefix("Value error, ")
        )
        for item in error.errors(include_url=False, include_input=False)
    ]
    more = f" (and {len(wrong) - most} more)" if len(wrong) > most else ""
    return "; ".join(wrong[:most]) + more
