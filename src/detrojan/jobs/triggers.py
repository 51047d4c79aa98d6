"""Reads triggers out of files and pictures, and writes recovered ones beside a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from detrojan.data.decoding_apart import read_with_opacity
from detrojan.errors import DataError, InputError, OptionError
from detrojan.files import refuse_special
from detrojan.findings import Finding
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


def load_trigger(
    path: Path,
    shape: tuple[int, int, int],
    *,
    place: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    alpha: float = 1.0,
) -> Trigger:
    """Read a trigger: a .safetensors file, or a picture that is stamped like a sticker.

    Args:
        path: the file.
        shape: (C, H, W) of the images.
        place: row and column of the picture's upper left corner; by default the image's own.
        size: (H, W) to bring the picture to.
        alpha: opacity of the whole picture, in (0, 1].

    Raises:
        DataError: it cannot be read, or does not fit the images.

    """
    refuse_special(path, DataError)
    if not path.is_file():
        raise DataError(f"expected a trigger, a .safetensors file or a picture; there is no file {path}")
    if path.suffix.lower() != ".safetensors":
        rgba = torch.from_numpy(read_with_opacity(path, shape[0], size))
        rgba[-1] *= alpha
        top, left = place or (0, 0)
        return PatchTrigger.picture_patch(rgba, shape, top=top, left=left)
    if place is not None or size is not None:
        raise OptionError("expected --at and --size with a picture only: a trigger file holds its place")
    trigger = Trigger.load(path)
    try:
        trigger.stamp(torch.zeros(1, *shape))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return trigger


def triggers_folder(json_file: Path | None, stated: Path | None) -> Path | None:
    """Return where triggers are saved: where stated, else beside the JSON, else nowhere."""
    if stated is not None or json_file is None or (json_file.exists() and not json_file.is_file()):
        return stated
    return json_file.with_name(f"{json_file.stem}_triggers")


def save_triggers(findings: Sequence[Finding], folder: Path | None, json_file: Path | None) -> dict[int, str]:
    """Save the findings' triggers and return their files by label, as the JSON names them.

    Files are named relative to the JSON where there is one, so that the two can move together.

    Raises:
        InputError: a file cannot be written.

    """
    if folder is None:
        return {}
    files: dict[int, str] = {}
    for finding in findings:
        if finding.trigger is not None:
            path = save_trigger(finding.trigger, folder / f"label_{finding.label}.safetensors")
            start = Path() if json_file is None else json_file.parent
            files[finding.label] = Path(os.path.relpath(path, start)).as_posix()
    return files


def save_trigger(trigger: Trigger, path: Path) -> Path:
    """Save one trigger and return its path.

    Raises:
        InputError: the file cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trigger.save(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write the trigger {path}: {error}") from error
    return path
