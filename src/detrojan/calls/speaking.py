"""What makes a task a call: gradients whatever stands around it, and errors in Python's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from detrojan.calls.given import Feeding
from detrojan.errors import DetrojanError, ModelError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_FLAG = re.compile(r"--([a-z][a-z-]*)")
#: options of the command line whose name in a call is the same
_SHARED = {*Feeding.__annotations__, "samples", "budget"}


def as_a_call(task: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a task that can be called within `torch.no_grad` too, and whose errors name its arguments."""

    @wraps(task)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            with torch.inference_mode(mode=False), torch.enable_grad():
                return task(*args, **kwargs)
        except DetrojanError as error:
            if error.args and isinstance(error.args[0], str):
                error.args = (in_python(error.args[0]), *error.args[1:])
            raise
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise ModelError(
                "expected a network whose answers have gradients, got one without: take torch.no_grad, "
                "inference_mode and detach out of its forward, or give a function that calls it, for what "
                "needs answers alone"
            ) from error

    return call


def in_python(text: str) -> str:
    """Return an error's text with the command line's options as a call's arguments: --net is net=."""

    def renamed(match: re.Match[str]) -> str:
        name = match[1].replace("-", "_")
        return f"{name}=" if name in _SHARED else match[0]

    return _FLAG.sub(renamed, text)
