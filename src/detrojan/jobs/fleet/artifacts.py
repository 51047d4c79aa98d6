"""Finds the weights in a folder of artifacts that MLflow keeps; nothing in it is loaded or executed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from detrojan.errors import ModelError
from detrojan.files import refuse_special
from detrojan.jobs.fleet.found import ENDINGS, is_model_folder
from detrojan.models.loading import format_of
from detrojan.parsing.mlmodel import NAME, parse_mlmodel
from detrojan.quarantine import quarantined

#: how MLflow calls a file of weights, without its ending
_USUAL = "model"


def stated_weights(folder: Path) -> str:
    """Return where the weights lie by what the file MLmodel says, relative to the folder.

    Args:
        folder: what holds the file MLmodel.

    Returns:
        The path; empty where there is no such file, and the folder itself has to be looked through.

    Raises:
        ModelError: the file cannot be read, names no weights or several, or what lies outside of the folder.
        MissingExtraError: PyYAML is not installed.

    """
    path = folder / NAME
    if not path.is_file():
        return ""
    flavours: list[tuple[str, str]] = quarantined(parse_mlmodel, inside(folder, NAME))
    if not flavours:
        raise ModelError(f"{path}: expected a flavour that names a file of weights, got none")
    stated = {where: name for name, where in reversed(flavours)}
    if len(stated) > 1:  # which of them is used depends on who loads it
        got = " and ".join(f"{where!r:.80} of {name!r:.40}" for where, name in sorted(stated.items())[:3])
        raise ModelError(f"{path}: expected flavours that share their weights, got {got}")
    (only,) = stated
    inside(folder, only)
    return only


def weights_in(folder: Path, stated: str) -> Path:
    """Return the file or folder that holds the weights.

    Args:
        folder: the artifacts; or a file, which is returned as it is.
        stated: what `stated_weights` said.

    Raises:
        ModelError: it is not there, or there are several, or it lies outside of the folder.

    """
    path = inside(folder, stated) if stated else folder
    if path.is_file():
        refuse_special(path, ModelError)
        return path
    if not path.is_dir():
        raise ModelError(f"{folder}: expected the weights in {stated or 'it'}, got no such file or folder")
    entries = sorted(path.iterdir())
    files = [one for one in entries if one.suffix.lower() in ENDINGS and one.is_file()]
    found = [one for one in files if one.stem == _USUAL] or files
    if is_model_folder(path):
        used = {one.name for one in format_of(path).files(path)}
        found = [one for one in files if one.stem == _USUAL and one.name not in used]
        if not found:
            return path
        found.append(path)
    elif not found:
        found = [one for one in entries if one.is_dir() and is_model_folder(one)]
    if len(found) != 1:
        got = ", ".join(one.name for one in (found or entries)[:4]) or "nothing"
        raise ModelError(f"{path}: expected one file of weights, got {got}")
    return inside(folder, str(found[0].relative_to(folder)))


def inside(folder: Path, name: str) -> Path:
    """Return the path of what a stranger names, if it lies in the folder, links followed.

    Raises:
        ModelError: it leads elsewhere.

    """
    plain = PurePosixPath(name)
    wrong = not name or plain.is_absolute() or ".." in plain.parts or bool({"\\", "\0", ":"} & set(name))
    try:
        if not wrong and (folder / plain).resolve().is_relative_to(folder.resolve()):
            return folder / plain
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise ModelError(f"{folder}: expected a path in this folder, got {name!r:.80}") from error
    raise ModelError(f"{folder}: expected a path in this folder, got {name!r:.80}")
