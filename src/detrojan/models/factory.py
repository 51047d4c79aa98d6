"""Makes a network by the user's own code, which has to be named explicitly."""

from __future__ import annotations

import importlib
import re

from torch import nn

from detrojan.errors import ModelError, OptionError


def import_factory(spec: str) -> nn.Module:
    """Call the user's function "package.module:function" and return the network it makes.

    This runs the user's code, which is why it has to be named explicitly.

    Raises:
        OptionError: the text is not of that form.
        ModelError: the module or function cannot be found, fails, or returns no torch.nn.Module.

    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", spec):
        raise OptionError(f'expected a factory as "package.module:function", got {spec!r}')
    module, _, function = spec.partition(":")
    try:
        maker = getattr(importlib.import_module(module), function)
        network = maker()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"the factory {spec} failed: {type(error).__name__}: {error} (a module of your own is found "
            f"if its folder is on PYTHONPATH)"
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"expected a torch.nn.Module from the factory {spec}, got {type(network).__name__}")
    return network
