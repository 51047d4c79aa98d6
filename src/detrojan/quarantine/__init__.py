"""Where files from strangers are parsed: a child process with limits, which hands back plain values.

A parser gets a path and gives back a plain tree: dicts, lists, tuples, strings, numbers, bytes, None, NumPy
arrays and tensors. It makes no objects of our own. What is built out of the tree is built outside.
Where the parser's module has a function `prepare`, it is called before the first file is opened.
"""

from detrojan.quarantine.asking import quarantined
from detrojan.quarantine.limits import allow_memory, check_room

__all__ = ["allow_memory", "check_room", "quarantined"]
