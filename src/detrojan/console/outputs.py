"""Writes a verb's result: on stdout, as JSON, as a page, and triggers as files beside the JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrojan.console.options import OutputOptions
from detrojan.console.overwriting import claim_file, claim_folder
from detrojan.console.state import current
from detrojan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.problems import Result
    from detrojan.report.report import AnyReport


def check_writable(*paths: Path | None) -> None:
    """Notice before the work, not after it, that a result could not be written, or not without loss.

    The folders that the files go to are made.

    Raises:
        InputError: a folder where a file is expected, a folder that cannot be written to, or a file
            that the call under way reads.
        OptionError: a file that another result goes to.

    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise InputError(f"expected a file to write to, got the folder {path}")
        claim_file(path)
        if path.is_file() or not path.exists():
            _make(path.resolve().parent, path)


def check_folder(*folders: Path | None, writes: Sequence[str] = ()) -> None:
    """Notice before the work that results could not be written to a folder, or not without loss.

    The folders are made.

    Args:
        folders: where results go; None is left out.
        writes: names, or patterns of names, of what will be written or removed in them.

    Raises:
        InputError: a file stands there, a folder that cannot be written to, or files in it that the
            call under way reads.
        OptionError: a file that another result goes to.

    """
    for folder in folders:
        if folder is None:
            continue
        if folder.exists() and not folder.is_dir():
            raise InputError(f"expected a folder to write to, got the file {folder}")
        claim_folder(folder, writes)
        _make(folder, folder)


def check_model_place(path: Path, model: Path) -> None:
    """Notice before the work that a copy of the model at `model` could not be written to `path`.

    Raises:
        InputError: as `check_writable` and `check_folder`; a folder, where the model is a file.
        OptionError: a place that another result goes to.

    """
    if model.is_dir() and path.is_dir():
        check_folder(path, writes=("*",))
    else:
        check_writable(path)


def _make(folder: Path, wanted: Path) -> None:
    """Make a folder and try to write in it: permissions alone do not tell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot write {wanted}: {folder} is no folder that can be written to ({reason})"
        ) from error


def emit(
    report: AnyReport, output: OutputOptions, pictures: Mapping[int, TriggerPictures] | None = None
) -> None:
    """Show a report, and write it wherever the options say; what is known is shown first.

    Raises:
        InputError: a file cannot be written; all others are.

    """
    from detrojan.report.text import report_text  # noqa: PLC0415 - only reports need it

    try:
        if output.format_ == "json":
            for text in report.warnings:
                current().note(f"warning: {text}", "bold yellow")
            write(report.to_json())
        else:
            show(report_text(report))
    finally:  # also where stdout takes no more
        write_files(report, output, pictures)


def _save(texts: Mapping[Path, str]) -> None:
    """Write each text to its file; an error of one waits until all were tried."""
    from detrojan.files import save_text  # noqa: PLC0415 - not every call writes files

    failed: InputError | None = None
    for file, text in texts.items():
        try:
            save_text(file, text)
        except InputError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def write_files(
    result: Any, output: OutputOptions, pictures: Mapping[int, TriggerPictures] | None = None
) -> None:
    """Write a report or a record to the files that the options name.

    Raises:
        InputError: a file cannot be written; all others are.

    """
    from detrojan.report.outputs.base import outputs  # noqa: PLC0415

    files = {file: kind for name, kind in outputs().items() if (file := output.files.get(name)) is not None}
    _save({file: kind.render(result, pictures) for file, kind in files.items()})


def write_gathered(results: Iterable[Result], output: OutputOptions) -> None:
    """Write many results to the files for other tools that the options name.

    Raises:
        InputError: a file cannot be written.

    """
    from detrojan.files import save_text  # noqa: PLC0415
    from detrojan.report.outputs.base import Gathering, outputs  # noqa: PLC0415

    chosen = {kind: file for name, kind in outputs().items() if (file := output.files.get(name)) is not None}
    found = list(results) if chosen else []
    for kind, file in chosen.items():
        assert isinstance(kind, Gathering)
        save_text(file, kind.render_all(found))


def emit_values(values: Mapping[str, Any], output: OutputOptions, text: RenderableType) -> None:
    """Show a result that is no report, as JSON or as its text, and write it where the options say."""
    dumped = json.dumps(values, indent=2, allow_nan=False)
    try:
        if output.format_ == "json":
            write(dumped)
        else:
            show(text)
    finally:  # also where stdout takes no more
        if output.json_file is not None:
            _save({output.json_file: dumped + "\n"})


def write(text: str) -> None:
    """Write text on stdout."""
    with _unbroken():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def show(renderable: RenderableType) -> None:
    """Write something rich on stdout."""
    from rich.console import Console  # noqa: PLC0415

    with _unbroken():
        Console(highlight=False).print(renderable)
        sys.stdout.flush()


@contextmanager
def _unbroken() -> Iterator[None]:
    """Let a reader go away early (| head) without changing the exit code, which is the verdict."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_triggers(json_file: Path | None, stated: Path | None = None) -> None:
    """Notice before the work that recovered triggers could not be saved; only a stated folder is made.

    Raises:
        InputError: a file stands there, a folder that cannot be written to, or triggers in it that the
            call under way reads.
        OptionError: a file that another result goes to.

    """
    from detrojan.jobs.triggers import triggers_folder  # noqa: PLC0415

    folder = triggers_folder(json_file, stated)
    if folder is not None and (folder == stated or folder.exists()):
        check_folder(folder, writes=("label_*.safetensors",))
