"""Keeps a verb from writing over what it reads, and from writing two results to one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from detrojan.errors import InputError, OptionError
from detrojan.report.outputs.base import outputs

#: parameters that say where a verb writes; all others may name what it reads
_OUTPUTS = {"out", "n_plus_one_file", "triggers", "figures", "checkpoint", "cache"} | {
    f"{name}_file" for name in outputs()
}
#: texts that name data, which may be a folder or one of the words; other texts are looked at for files only
_DATA = {"data", "source", "test_data"}
#: the files of a guard's folder
_GUARD = ("guard.json", "guard.safetensors", "model.*", "scores.png")
#: a folder that holds it may be a model; whatever lies beside it belongs to the model
_MODEL = "config.json"
#: results may lie in a folder of data: by these endings, and by those of models, they are none of its samples
_RESULTS = (".json", ".html", ".npz")
_CLAIMED = "detrojan.outputs"


def claim_file(path: Path) -> None:
    """Refuse a result's file that the call under way reads, or that another of its results goes to.

    Raises:
        InputError: it is one of the inputs, or a sample of an input folder.
        OptionError: another result goes there.

    """
    context = click.get_current_context(silent=True)
    if context is None or (path.exists() and not path.is_file()):  # a device may take several results
        return
    _refuse_input(path, _inputs(context))
    for given, name in _inputs(context):
        if given.is_dir() and path.is_file() and not _is_result(path) and _within(path, given):
            raise _read_as(path, name)
    _claim(context, path, _option_of(context, path))


def claim_folder(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder of results in which files would be written over that the call under way reads.

    Args:
        folder: the folder, which need not exist.
        names: the files that will be written or removed in it; patterns such as trigger_*.png.

    Raises:
        InputError: one of them is an input, or the folder itself is one.
        OptionError: another result goes to one of them.

    """
    context = click.get_current_context(silent=True)
    if context is None:
        return
    found, option = list(_inputs(context)), _option_of(context, folder)
    for given, name in found:
        if given.is_dir() and _same(folder, given):
            raise _read_as(folder, name)
    for pattern in names:
        for path in (folder / pattern, *folder.glob(pattern)):
            _refuse_input(path, found)
        _claim(context, folder / pattern, option)


def _is_result(path: Path) -> bool:
    from detrojan.models.writing import usual_endings  # noqa: PLC0415 - imports torch

    return path.name.lower().endswith((*_RESULTS, *usual_endings()))


def _inputs(context: click.Context) -> Iterator[tuple[Path, str]]:
    """Yield what exists of the files and folders that a call reads, with the parameter that names it."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _OUTPUTS:
            continue
        value = context.params.get(name)
        for item in value if isinstance(value, tuple) else (value,):
            for path in _paths(item, folders=name in _DATA):
                for own in (path, *_parts(path, findings=name == "findings_file")):
                    yield own, _label(parameter)


def _paths(value: Any, *, folders: bool) -> Iterator[Path]:
    """Yield what exists of the paths that a value may name: PATH, FILE:LABEL, PICTURE:TARGET, NAME=PATH."""
    if isinstance(value, Path):
        candidates, folders = [value], True
    elif isinstance(value, str) and value.partition(":")[0] not in _words():
        texts = (value, value.rpartition(":")[0], value.partition("=")[2])
        candidates = [Path(text) for text in texts if text]
    else:
        return
    for path in candidates:
        try:
            if path.is_file() or (folders and path.is_dir()):
                yield path
        except (OSError, ValueError):  # no name that a file could have
            continue


def _words() -> set[str]:
    """Return the texts that name data without a path."""
    from detrojan.data.drawn.synthetic import NONE  # noqa: PLC0415 - imports torch
    from detrojan.data.formats.base import words  # noqa: PLC0415

    return {NONE, *words()}


def _parts(path: Path, *, findings: bool) -> Iterator[Path]:
    """Yield the files that are read with a path: those of a guard's or model's folder, findings' triggers."""
    if (path / "guard.json").is_file():
        for pattern in _GUARD:
            yield from path.glob(pattern)
    if (path / _MODEL).is_file():
        yield from path.iterdir()
    if findings:
        yield from _triggers(path)


def _triggers(findings: Path) -> list[Path]:
    """Return the triggers that a scan's JSON names; of another file none: that is said when it is read."""
    try:
        entries = json.loads(findings.read_text("utf-8"))["findings"]
        return [findings.parent / entry["trigger"] for entry in entries if entry["trigger"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _refuse_input(path: Path, inputs: Iterable[tuple[Path, str]]) -> None:
    for given, name in inputs:
        if given.is_file() and _same(path, given):
            raise _read_as(path, name)


def _read_as(path: Path, name: str) -> InputError:
    return InputError(f"expected another path than {path}: it belongs to {name}, which is never overwritten")


def _claim(context: click.Context, path: Path, option: str) -> None:
    claimed: dict[Path, str] = context.meta.setdefault(_CLAIMED, {})
    place = path.parent.resolve() / path.name if "*" in path.name else path.resolve()
    for other, by in claimed.items():
        if other.parent == place.parent and _overlap(other.name, place.name):
            raise OptionError(f"expected two files for {by} and {option}, got {path} for both")
    claimed[place] = option


def _overlap(one: str, other: str) -> bool:
    return one == other or fnmatchcase(one, other) or fnmatchcase(other, one)


def _same(path: Path, given: Path) -> bool:
    try:
        return path.exists() and path.samefile(given)
    except OSError:
        return False


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _option_of(context: click.Context, path: Path) -> str:
    """Return the option that a result's path was given by."""
    for parameter in context.command.params:
        if parameter.name in _OUTPUTS and context.params.get(parameter.name) == path:
            label = _label(parameter)
            if label not in context.meta.get(_CLAIMED, {}).values():
                return label
    return str(path)


def _label(parameter: click.Parameter) -> str:
    """Return a parameter as a person writes it: --data, MODEL."""
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name.strip("[]").removesuffix("...").strip("[]")
    return parameter.opts[0]
