"""How labels, ranges, sizes and lists are written on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

#: more labels than any network has
_MOST_LABELS = 1_000_000


class Text(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Base: text from the command line becomes a value, or a usage error that shows how to write it."""

    shape = ""
    example = ""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return how the value is written, as it is: HxW, not HXW."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that the text stands for."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value.strip())
        except (ValueError, OverflowError):
            self.fail(f"expected {self.shape}, e.g. {self.example}, got {value!r}", param, ctx)

    def parse(self, text: str) -> Any:
        """Return the value, or raise ValueError."""
        raise NotImplementedError


class Labels(Text):
    """Labels and ranges of labels: 0-39,77."""

    name, shape, example = "labels", "labels and ranges of them", "0-39,77"

    def parse(self, text: str) -> list[int]:
        """Return the labels in ascending order, each once."""
        found: set[int] = set()
        for piece in text.split(","):
            match = re.fullmatch(r"\s*(\d{1,9})\s*(?:(?:-|\.\.)\s*(\d{1,9})\s*)?", piece)
            if match is None:
                raise ValueError(piece)
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first or last > _MOST_LABELS:
                raise ValueError(piece)
            found.update(range(first, last + 1))
        return sorted(found)


class Memory(Text):
    """A number of bytes: 800M, 4G."""

    name, shape, example = "size", "a size in MB or GB", "4G"

    def parse(self, text: str) -> int:
        """Return the number of bytes."""
        match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([MG])B?", text, re.IGNORECASE)
        if match is None:
            raise ValueError(text)
        return int(float(match[1]) * (10**6 if match[2] in "mM" else 10**9))


class Numbers(Text):
    """Numbers with commas between them: 0.49,0.48,0.45."""

    name, shape, example = "numbers", "finite numbers with commas between them", "0.49,0.48,0.45"

    def parse(self, text: str) -> tuple[float, ...]:
        """Return the numbers."""
        values = tuple(float(piece) for piece in text.split(","))
        if not all(abs(value) < float("inf") for value in values):
            raise ValueError(text)
        return values


class ValueRange(Text):
    """What black and white are: 0-255, 0:1, -1..1."""

    name, shape, example = "low-high", "a range, low before high", "0-255 or -1:1"

    def parse(self, text: str) -> tuple[float, float]:
        """Return low and high."""
        from detrojan.data.pixels import parse_range  # noqa: PLC0415 - imports torch
        from detrojan.errors import OptionError  # noqa: PLC0415

        try:
            return parse_range(text)
        except OptionError as error:
            raise ValueError(text) from error


class InputRange(ValueRange):
    """What black and white are for a network, or the word auto."""

    name, shape, example = "low-high|auto", "a range, low before high, or auto", "0-255, -1:1 or auto"

    def parse(self, text: str) -> Any:
        """Return low and high, or "auto"."""
        return "auto" if text.lower() == "auto" else super().parse(text)


class Whole(Text):
    """Whole numbers with an x or a comma between them: 32x32, 3x55x47, 17,20."""

    def __init__(self, name: str, count: int, example: str, least: int = 1) -> None:
        self.name, self.example, self.shape = name, example, name
        self._count, self._least = count, least

    def parse(self, text: str) -> tuple[int, ...]:
        """Return the numbers."""
        values = tuple(int(piece) for piece in re.split(r"[x,]", text.lower()))
        if len(values) != self._count or min(values) < self._least or max(values) > 100_000:
            raise ValueError(text)
        return values


SIZE = Whole("HxW", 2, "32x32")
SHAPE = Whole("CxHxW", 3, "3x55x47")
PLACE = Whole("top,left", 2, "17,20", least=0)
