"""That a training with another hyper-parameter is told apart from the one whose state is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract_subjects import SHAPE, flat, small, tiny_data, tiny_model, use
from contracts import noted_states
from detrojan.errors import DetrojanError, OptionError
from detrojan.method import Method
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


def other_values(method: Method, name: str) -> Iterator[Any]:
    """Yield values that a hyper-parameter might have instead; some may be out of its range."""
    value, hint = getattr(method, name), typing.get_type_hints(type(method))[name]
    if typing.get_origin(hint) is typing.Literal:
        yield from (choice for choice in typing.get_args(hint) if choice != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value + 4, value - 1)
    elif isinstance(value, float):
        yield from (value * 0.7, value + 0.1, value * 1.3)
    elif Trigger in typing.get_args(hint):
        yield PatchTrigger.corner(SHAPE, size=4, where="top left")
    elif value is None and int in typing.get_args(hint):
        yield 2


def variations(method: Method) -> Iterator[tuple[str, Method]]:
    """Yield the method with one hyper-parameter changed at a time, where another value of it is known."""
    for field in dataclasses.fields(method):
        for value in other_values(method, field.name):
            with contextlib.suppress(OptionError):
                yield field.name, dataclasses.replace(method, **{field.name: value})
                break


def check_trainings_are_told_apart(method: type[Method], folder: Path) -> int:
    """Return how many variations were tried; none where the method trains nothing."""

    def result(varied: Method, run: Run) -> list[tuple[str, Any]] | str:
        try:
            return list(flat(use(varied, tiny_model(), tiny_data(), run)))
        except DetrojanError as error:
            return str(error)

    plain = small(method, few=2)
    kept = Run(seed=3, checkpoint=folder)
    result(plain, kept)
    if not list(folder.glob("fit-*")):
        return 0
    tried = list(variations(plain))
    for name, varied in tried:
        with noted_states() as states:
            found = result(varied, kept)
        # what took no state over began anew, whatever lies there
        assert not states or found == result(varied, Run(seed=3)), (
            f"with another {name}, a training of the method as it was is taken for the varied one's"
        )
    return len(tried)
