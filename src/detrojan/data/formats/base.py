"""What a data format is: it says what it recognises, which splits there are, and reads one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from detrojan.catalog import classes
from detrojan.data.source import Source
from detrojan.data.walking import first_bytes, is_file, is_folder
from detrojan.files import at_home


@dataclass(frozen=True)
class Place:
    """What a caller named: a word such as signs, a file or a folder.

    Attributes:
        path: the file or folder, which need not exist.
        text: what the caller wrote, where that was text; only text can be a word.

    """

    path: Path
    text: str = ""

    @classmethod
    def of(cls, path: str | Path) -> Place:
        """Return the place that a path or a word names."""
        return cls(at_home(path), path if isinstance(path, str) else "")

    @cached_property
    def word(self) -> str:
        """What stands before a colon in the text, e.g. signs in signs:train; else empty."""
        return self.text.partition(":")[0]

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return is_folder(self.path)

    @cached_property
    def head(self) -> bytes:
        """The first 12 bytes of a file; empty where it is no file.

        Raises:
            DataError: it cannot be read.

        """
        return first_bytes(self.path, 12) if is_file(self.path) else b""


class Format(ABC):
    """One kind of data. A new kind is one file in this package, with one subclass in it."""

    #: what people call it, with its article: it completes "expected ..."
    kind: ClassVar[str]
    #: what `detrojan list data` says of it: a name and a sentence each
    listed: ClassVar[tuple[tuple[str, str], ...]]
    #: formats with a low number are asked first
    precedence: ClassVar[int] = 50
    #: texts that name such data instead of a path, e.g. signs; formats with words are asked before all others
    words: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, place: Place) -> bool:
        """Tell by its content whether a place holds such data; quick, and never an error of its own.

        Raises:
            DataError: the file cannot be read.

        """

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits there are: train, test, val; an empty name for images that belong to none.

        No pixels are read.

        Raises:
            DataError: the place is damaged or has no images.

        """
        return ("",)

    @abstractmethod
    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the data; their pixels are decoded later.

        Args:
            place: where they are.
            split: which of the splits; None takes the only one, or a usual one.
            unlabelled: leave the labels out.

        Raises:
            UnsafeFileError: reading would run code from the file, or open other files.
            DataError: damaged, no images, or no such split.

        """


def formats() -> list[Format]:
    """Return the formats of this package in the order in which they are asked."""
    found = [kind() for kind in classes(__package__ or "", Format)]  # type: ignore[type-abstract]
    return sorted(found, key=lambda one: (not one.words, one.precedence, type(one).__name__))


def kinds() -> str:
    """Return what data can be, for errors: a file of some kind, or a word."""
    found = [one.kind for one in sorted(formats(), key=lambda one: bool(one.words))]
    return ", ".join(found[:-1]) + f" or {found[-1]}"


def words() -> set[str]:
    """Return the texts that name data without a path."""
    return {word for one in formats() for word in one.words}
