"""Makes a network by the user's own code, which has to be named explicitly."""

from __future__ import annotations

import ast
import importlib
import re
from typing import Any

from torch import nn

from detrojan.errors import ModelError, OptionError


def import_factory(spec: str) -> nn.Module:
    """Call the user's function "package.module:function" and return the network it makes.

    A class does as well. Arguments that are plain values may follow in brackets, as in
    "package.module:Net(28, classes=10)". This runs the user's code, which is why it has to be named
    explicitly.

    Raises:
        OptionError: the text is not of that form.
        ModelError: the module or function cannot be found, fails, or returns no torch.nn.Module.

    """
    name, bracket, rest = spec.partition("(")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name.strip()):
        raise OptionError(f'expected a factory as "package.module:function", got {spec!r}')
    given, named = _arguments(bracket + rest, spec) if bracket else ([], {})
    module, _, function = name.strip().partition(":")
    try:
        maker = getattr(importlib.import_module(module), function)
        network = maker(*given, **named)
    except Exception as error:  # the user's code may raise anything
        helps = "a module of your own is found if its folder is on PYTHONPATH"
        if isinstance(error, TypeError) and "argument" in str(error):
            helps = f"arguments may follow it: --factory '{name.strip()}(28, classes=10)'"
        raise ModelError(f"the factory {spec} failed: {type(error).__name__}: {error} ({helps})") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"expected a torch.nn.Module from the factory {spec}, got {type(network).__name__}")
    return network


def _arguments(text: str, spec: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments in brackets: numbers, texts, True, False, None, and lists of such."""
    wrong = OptionError(f"expected plain values as the arguments of a factory, got {spec!r}")
    try:
        call = ast.parse(f"f{text}", mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise wrong from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise wrong
    try:
        given = [ast.literal_eval(one) for one in call.args]
        named = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise wrong from error
    if None in named:
        raise wrong
    return given, {str(name): value for name, value in named.items()}
