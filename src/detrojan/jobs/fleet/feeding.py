"""How the models of a fleet are fed and on what they are judged, as a policy or a row of a list states it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError

from detrojan.data.drawn.synthetic import NONE
from detrojan.data.formats.base import words
from detrojan.data.pixels import parse_range
from detrojan.errors import InputError, OptionError
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.models.loading import file_sha256
from detrojan.records import Part, wrong_places

_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}


def _numbers(value: Any) -> Any:
    return tuple(float(piece) for piece in value.split(",")) if isinstance(value, str) else value


def _sizes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(int(piece) for piece in re.split(r"[x,]", value.lower()))


def _range(value: Any) -> Any:
    try:
        return parse_range(value) if isinstance(value, str) and value != "auto" else value
    except OptionError as error:
        raise ValueError(str(error)) from error


def _flag(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in _YES | _NO:
        return value.lower() in _YES
    return value


_Numbers = Annotated[tuple[float, ...] | None, BeforeValidator(_numbers)]
_Range = Annotated[tuple[float, float] | None, BeforeValidator(_range)]
_Flag = Annotated[bool, BeforeValidator(_flag)]


class Feeding(Part):
    """How one model, or all of them, are built, fed and judged; the names are those of `detrojan scan`.

    What is stated here may be text, as in a table, or a value. Files are named relative to the file that
    states them. Code that a user brings (`--factory`, `--allow-unsafe`) cannot be stated.
    """

    net: str | None = None
    classes: Annotated[int, Field(ge=1)] | None = None
    input_shape: Annotated[tuple[int, int, int] | None, BeforeValidator(_sizes)] = None
    preprocess: str | None = None
    input_range: Annotated[tuple[float, float] | Literal["auto"] | None, BeforeValidator(_range)] = None
    mean: _Numbers = None
    std: _Numbers = None
    layout: Literal["NCHW", "NHWC"] | None = None
    bgr: _Flag = False
    class_names: str | None = None
    output: str | None = None
    key: str | None = None
    data: str = NONE
    split: str | None = None
    samples: Annotated[int, Field(ge=1)] | None = None
    data_range: _Range = None
    resize: Annotated[tuple[int, int] | None, BeforeValidator(_sizes)] = None
    channels: Literal["grey", "colour"] | None = None
    crop: _Flag = False
    unlabelled: _Flag = False

    @classmethod
    def read(cls, values: Mapping[str, Any], base: Path, where: str) -> Self:
        """Return what a table or a row says, its files named from here.

        Args:
            values: by name; dashes count as underscores.
            base: the folder that files are named relative to.
            where: what states them, for errors.

        Raises:
            OptionError: a name that is not known, or a value that does not fit.

        """
        stated = {name.replace("-", "_"): value for name, value in values.items()}
        for name in ("data", "class_names", "preprocess"):
            value = stated.get(name)
            if isinstance(value, str) and _is_path(name, value, base):
                stated[name] = str(base / value)
        try:
            return cls(**stated)
        except ValidationError as error:
            raise OptionError(f"{where}: {wrong_places(error, 'row')}") from error

    def over(self, usual: Feeding) -> Feeding:
        """Return this one, with what is usual for all that it does not state."""
        return usual.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})

    def model_source(self, path: Path) -> ModelSource:
        """Return the model at `path`, fed as stated here."""
        names = None if self.class_names is None else Path(self.class_names)
        stated = self.model_dump(include=_MODEL - {"class_names"})
        return ModelSource(model=path, class_names=names, **stated)

    def data_source(self) -> DataSource:
        """Return the data that are stated here."""
        return DataSource(**self.model_dump(include=_DATA))

    def identity(self, data: str) -> dict[str, Any]:
        """Return all that a result depends on of this; files by their content.

        Args:
            data: the digest of the data.

        Raises:
            InputError: a file that cannot be read.

        """
        values = self.model_dump(mode="json") | {"data": data}
        for name in ("preprocess", "class_names"):
            stated = values[name]
            if stated is not None and Path(stated).is_file():
                values[name] = file_sha256(Path(stated))
        return values


_DATA = {"data", "split", "samples", "data_range", "resize", "channels", "crop", "unlabelled"}
_MODEL = set(Feeding.model_fields) - _DATA


def _is_path(name: str, value: str, base: Path) -> bool:
    """Tell whether a value names a file or a folder, and not a word such as signs or imagenet."""
    if name == "preprocess":
        return (base / value).is_file()
    return name != "data" or value.partition(":")[0] not in {NONE, *words()}


def is_list(path: Path) -> bool:
    """Tell by its ending whether a file is a list of models."""
    return path.suffix.lower() in {".csv", ".tsv", ".jsonl", ".ndjson"}


def refuse_code(values: Mapping[str, Any], where: str) -> None:
    """Refuse what would run code, whoever states it.

    Raises:
        InputError: a factory, or that unsafe files are allowed.

    """
    wrong = sorted({"factory", "allow_unsafe", "allow-unsafe"} & values.keys())
    if wrong:
        raise InputError(f"{where}: expected no {wrong[0]!r} in a file: it runs code")
