"""Methods and trainings out of a plan's values, checked against the types that their dataclasses state."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from detrojan import catalog
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting
from detrojan.method import Method


def method_of(room: str, name: str, values: Mapping[str, Any], given: Sequence[str] = ()) -> Method:
    """Return a method of a room with hyper-parameters as TOML has them.

    Args:
        room: e.g. "repairs".
        name: of the method.
        values: its hyper-parameters by name.
        given: hyper-parameters that will be set later, and must exist too.

    Raises:
        OptionError: no such method or hyper-parameter, or a value that does not fit.

    """
    kind = catalog.find(room, name)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in (*values, *given):
        if key not in known:
            raise OptionError(f"expected a hyper-parameter of {name} out of {', '.join(known)}, got {key!r}")
    return kind(**_typed(kind, values))


def fitting_of(values: Mapping[str, Any]) -> Fitting:
    """Return how to train, out of values as TOML has them.

    Raises:
        OptionError: no such setting, or a value that does not fit.

    """
    known = [field.name for field in dataclasses.fields(Fitting)]
    for key in values:
        if key not in known:
            raise OptionError(f"expected a setting of the training out of {', '.join(known)}, got {key!r}")
    return Fitting(**_typed(Fitting, values))


def _typed(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    found = {}
    for key, value in values.items():
        try:
            adapter = TypeAdapter(hints[key], config=ConfigDict(arbitrary_types_allowed=True))
            found[key] = adapter.validate_python(value)
        except ValidationError as error:
            text = error.errors(include_url=False)[0]["msg"]
            raise OptionError(f"{key}: {text}, got {value!r:.80}") from error
    return found
