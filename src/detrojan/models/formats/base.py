"""What a model format is: it says what it recognises and which models it can write, reads and writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from detrojan.catalog import classes
from detrojan.errors import ModelError, WeightsError
from detrojan.models.classifier import Classifier
from detrojan.models.matching import COUNTER
from detrojan.models.weights import Architecture, Loaded
from detrojan.parsing.zips import parse_names
from detrojan.quarantine import quarantined


@dataclass(frozen=True)
class Content:
    """A file's beginning, its size, and what lies in it where it is a zip or a folder.

    Attributes:
        path: the file or folder.

    """

    path: Path

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def head(self) -> bytes:
        """The first 16 bytes; none of a folder.

        Raises:
            ModelError: it cannot be read.

        """
        if self.is_folder:
            return b""
        try:
            with self.path.open("rb") as file:
                return file.read(16)
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror}") from error

    @cached_property
    def size(self) -> int:
        """The number of bytes."""
        return self.path.stat().st_size

    @property
    def is_zip(self) -> bool:
        """Whether it begins as a zip."""
        return self.head.startswith(b"PK\x03\x04")

    @cached_property
    def names(self) -> frozenset[str]:
        """The names in a zip, or directly in a folder; none of another file.

        Raises:
            ModelError: a zip that is damaged or cut off, or a folder that cannot be read.

        """
        try:
            if self.is_folder:
                return frozenset(entry.name for entry in self.path.iterdir())
            if not self.is_zip:
                return frozenset()
            return frozenset(quarantined(parse_names, self.path))
        except OSError as error:
            raise ModelError(f"{self.path}: a folder that cannot be read: {error}") from error


class Format(ABC):
    """One kind of file or folder that models come in. A new kind is one file or folder in this package."""

    #: what `Loaded.format` and reports call it
    name: ClassVar[str]
    #: what people call it, with its article and usual endings: it completes "expected a model: ..."; empty
    #: where it is known but not read
    kind: ClassVar[str]
    #: what `detrojan list formats` says of it: endings and a sentence each
    listed: ClassVar[tuple[tuple[str, str], ...]]
    #: the endings of what it writes, the usual one first; none where it only reads
    suffixes: ClassVar[tuple[str, ...]] = ()
    #: its models are written as a copy of their file with other weights, so by no other format; all other
    #: models, those made in memory among them, are written by any format that does not copy
    copies: ClassVar[bool] = False
    #: its models are folders, and it is asked of folders alone
    folder: ClassVar[bool] = False
    #: its files hold networks of other formats too, by what those say in `details["described"]`
    holds_described: ClassVar[bool] = False
    #: its reader puts the channels first, whatever order its files have
    channels_first: ClassVar[bool] = False
    #: formats with a low number are asked first
    precedence: ClassVar[int] = 50

    @abstractmethod
    def recognises(self, content: Content) -> bool:
        """Tell by its content, whatever it is called, whether a file or folder is of this kind; quick."""

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the files that a model is read from: of a folder those that are used, else the file itself.

        Raises:
            ModelError: the folder names a file that is not there, or that lies outside of it.

        """
        return (path,)

    @abstractmethod
    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read a file or a folder.

        Args:
            path: the file or folder.
            asked: the network as the caller names it; goes before what the file says.
            allow_unsafe: run the code that it contains; a format that needs none ignores this.

        Raises:
            ModelError: damaged, or a network that cannot be told.
            UnsafeFileError: reading it would run code from the file.
            WeightsError: the weights do not fit the network.
            MissingExtraError: it needs an optional library.

        """

    def endings(self, model: Classifier) -> tuple[str, ...]:
        """Return the endings of files that it can write this very model to; none where it cannot.

        A folder has no ending of its own; "/" stands for it.
        """
        return ("/",) if self.folder and self.copies else self.suffixes

    def can_write(self, model: Classifier, path: Path) -> bool:
        """Tell whether it can write this model to this path."""
        if self.folder:
            return self.copies and not path.name.lower().endswith(_file_endings())
        return path.name.lower().endswith(self.endings(model))

    def hint(self, model: Classifier) -> str:
        """Return what a person has to know about the endings; often nothing."""
        return ""

    def describe(self, model: Classifier) -> dict[str, Any]:
        """Return what a file that holds a model of this format beside another one must say of it.

        Plain JSON values under keys of the format's own. With the tensors they have to be enough for
        `described`; nothing where the network's name is enough. A reader may leave them in
        `details["described"]`.
        """
        said: dict[str, Any] = model.origin.details.get("described", {})
        return said

    def described(
        self,
        tensors: Mapping[str, torch.Tensor],
        said: Mapping[str, Any],
        asked: Architecture,
        where: str,
    ) -> Loaded | None:
        """Build a network again out of what `describe` said; None where that was not this format.

        Args:
            tensors: its weights and buffers under their own names.
            said: what a file says; it comes from outside.
            asked: the network as the caller or the file names it.
            where: the file, for error texts.

        Raises:
            ModelError: what the file says makes no sense.
            WeightsError: the tensors do not fit.

        """
        return None

    def write(self, model: Classifier, path: Path) -> None:
        """Write a model for which `can_write` is true; `path` is a scratch place that takes its place later.

        That is an empty file, or of a format of folders an empty folder.

        Raises:
            WeightsError: the network is no longer the one of its file.
            OSError: the file cannot be written.

        """
        raise NotImplementedError


def check_same_network(model: Classifier, wanted: Iterable[str], allowed: Iterable[str] = ()) -> None:
    """Refuse to write a network that is no longer the one of its file.

    Args:
        model: the model.
        wanted: names of the weights and buffers that the file has a place for.
        allowed: names of those that it may have besides.

    Raises:
        WeightsError: one of them is not there, or there are others.

    """
    names, places = set(model.network.state_dict()), set(wanted)
    missing = sorted(places - names)
    more = sorted(name for name in names - places - set(allowed) if not name.endswith(COUNTER))
    if missing or more:
        raise WeightsError(
            f"expected the network that came out of {model.origin.path}, "
            f"got one without {missing[:3]} and with {more[:3]}"
        )


def formats() -> list[Format]:
    """Return the formats of this package in the order in which they are asked."""
    found = [kind() for kind in classes(__package__ or "", Format)]  # type: ignore[type-abstract]
    return sorted(found, key=lambda one: (one.precedence, one.name))


def built_again(
    tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], asked: Architecture, where: str
) -> Loaded | None:
    """Build a network out of what its format has said of it; None where no format has.

    The arguments and errors are those of `Format.described`.
    """
    told = (kind.described(tensors, said, asked, where) for kind in formats())
    return next((one for one in told if one is not None), None)


def _file_endings() -> tuple[str, ...]:
    """Return the endings of all files that are written: no folder is taken to be called so."""
    return tuple(ending for one in formats() for ending in one.suffixes)


def format_named(name: str) -> Format | None:
    """Return the format that `Loaded.format` calls so, or None."""
    return next((one for one in formats() if one.name == name), None)


def expected() -> str:
    """Return what a model can be, for errors."""
    kinds = [one.kind for one in formats() if one.kind]
    return f"expected a model: {', '.join(kinds[:-1])} or {kinds[-1]}"
