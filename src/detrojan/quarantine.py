"""Where files from strangers are parsed.

A parser gets a path and gives back a plain tree: dicts, lists, tuples, strings, numbers, bytes, None, NumPy
arrays and tensors. It makes no objects of our own. What is built out of the tree is built outside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def quarantined(parse: Callable[..., Any], path: Path, *args: Any) -> Any:
    """Run `parse(path, *args)` and return the plain tree that it gives back.

    Args:
        parse: a function at the top of a module.
        path: the file from outside.
        args: plain values.

    """
    return parse(path, *args)
