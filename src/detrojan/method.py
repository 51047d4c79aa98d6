"""The one shape of every method: a frozen dataclass that holds hyper-parameters, and one verb."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all attacks, scans, repairs, guards, trainers and filters.

    A subclass is a frozen, keyword-only dataclass whose fields are its hyper-parameters and nothing
    else, with `name` set to what the command line calls it. Its docstring begins with one sentence
    of the idea, names the paper on a line that starts with ``Reference:`` and gives each
    hyper-parameter's meaning and range under ``Args:``.
    """

    name: ClassVar[str] = ""
    #: whether a model's answers are all that it needs, no weights and no gradients
    answers_only: ClassVar[bool] = False

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain values, for a report's record."""
        return dataclasses.asdict(self)

    def identity(self, part: str, **more: Any) -> dict[str, Any]:
        """Return what tells a training of this method apart from others.

        Args:
            part: which of the method's trainings it is.
            more: what it depends on besides the hyper-parameters: plain values, tensors, networks, triggers.

        """
        return {"method": self.name, "part": part, "hyper_parameters": self.hyper_parameters(), **more}

    @classmethod
    def summary(cls) -> str:
        """Return the first sentence of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")

    @classmethod
    def reference(cls) -> str:
        """Return the paper that the docstring names, or an empty text."""
        found = re.search(
            r"^Reference:\s*(.+?)(?:\n\n|\Z)", inspect.cleandoc(cls.__doc__ or ""), re.MULTILINE | re.DOTALL
        )
        return " ".join(found.group(1).split()) if found else ""

    @classmethod
    def parameter_docs(cls) -> dict[str, str]:
        """Return what the docstrings say under ``Args:``, by hyper-parameter, those of the bases first."""
        docs: dict[str, str] = {}
        for owner in reversed(cls.__mro__):
            if issubclass(owner, Method):
                docs |= _args(owner.__dict__.get("__doc__") or "")
        return docs


def _args(docstring: str) -> dict[str, str]:
    """Return what one docstring says under ``Args:``, by name."""
    text = inspect.cleandoc(docstring)
    _, _, args = text.partition("\nArgs:\n")
    docs: dict[str, str] = {}
    current = ""
    for line in args.splitlines():
        if line and not line.startswith(" "):
            break
        started = re.match(r"^    (\w+):\s*(.*)$", line)
        if started:
            current = started.group(1)
            docs[current] = started.group(2)
        elif current and line.strip():
            docs[current] += " " + line.strip()
    return docs
