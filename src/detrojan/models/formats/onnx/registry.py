"""The operators that are understood: a handler each, found in the files of `operators`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.values import Value

#: adds what an operator computes to the network, and returns its outputs
Handler = Callable[[Call], Value | list[Value]]

_HANDLERS: dict[str, Handler] = {}


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Register the handler of the operators with these names."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


@cache
def handlers() -> dict[str, Handler]:
    """Return the handlers by the names of their operators."""
    package = importlib.import_module(f"{__package__}.operators")
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(info.name)
    return dict(sorted(_HANDLERS.items()))
