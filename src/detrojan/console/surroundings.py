"""The surroundings of a verb's work: device, seed, progress, and the folder it goes on from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detrojan.console.options import RunOptions
from detrojan.console.state import current, start_logging
from detrojan.errors import InputError
from detrojan.report.outputs.base import outputs

if TYPE_CHECKING:
    from detrojan.run import Run

#: parameters that do not change what is computed: a call goes on from another one that differs in them
_NOT_IDENTITY = {
    "model", "data", "format_", "triggers", "out", "n_plus_one_file", "threads",
    "processes", "checkpoint", "resume", "verbose", "findings_file", "baseline_file", "against",
    "trigger_file", "verify",
    *(f"{name}_file" for name in outputs()),
}  # fmt: skip
_STATE_FILE = re.compile(r".+-[0-9a-f]{16}\.safetensors$|\..+\.[0-9a-f]{12}\.tmp$")


def start(options: RunOptions) -> Run:
    """Set the process up and return the surroundings, not yet with a checkpoint folder.

    Raises:
        OptionError: a device that is not there, or a seed of more than 64 bits.

    """
    from detrojan.console.progress import RichProgress  # noqa: PLC0415 - imports torch
    from detrojan.machine import check_device, device_named, tune  # noqa: PLC0415
    from detrojan.run import InTurn, Run  # noqa: PLC0415
    from detrojan.runner.processes import Processes  # noqa: PLC0415

    start_logging(verbose=options.verbose)
    if current().defaults and options.verbose:
        current().note(f"defaults from {', '.join(map(str, current().defaults))}")
    tune(options.threads)
    check_device(device_named(options.device))
    return Run(
        seed=options.seed,
        device=options.device,
        progress=RichProgress(current().console),
        runner=InTurn() if options.processes == 1 else Processes(options.processes),
    )


@contextmanager
def kept(run: Run, options: RunOptions, *inputs: str) -> Iterator[Run]:
    """Run the body with a folder for its state; the folder goes when the body has ended well.

    The default folder belongs to this very call: the verb, its options and the digests of its
    inputs. Without --resume what lies there is removed first.

    Args:
        run: the surroundings so far.
        options: where to keep the state, and whether to go on from it.
        inputs: digests of what the work is done on.

    Raises:
        InputError: the folder cannot be used.

    """
    state = current()
    folder = options.checkpoint or _cache() / _identity(*inputs)
    try:
        if not options.resume:
            _clear(folder)
        elif not any(folder.glob("*.safetensors")):
            state.note(f"nothing to resume in {folder}; starting from the beginning")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot keep the state in {folder} ({error.strerror or error})"
        if options.checkpoint is not None or options.resume:
            raise InputError(f"{reason}: name a folder with --checkpoint DIR") from error
        state.note(f"{reason}: this call cannot be resumed (--checkpoint DIR names another place)")
        yield run
        return
    state.checkpoint = folder
    yield replace(run, checkpoint=folder)
    state.checkpoint = None
    _clear(folder)
    if options.checkpoint is None:
        shutil.rmtree(folder, ignore_errors=True)


def _cache() -> Path:
    from platformdirs import user_cache_path  # noqa: PLC0415 - `--help` shall be fast

    return user_cache_path("detrojan")


def _identity(*inputs: str) -> str:
    context = click.get_current_context()
    chosen = {name: str(value) for name, value in context.params.items() if name not in _NOT_IDENTITY}
    text = json.dumps([context.info_name, chosen, inputs], sort_keys=True)
    return f"{context.info_name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _clear(folder: Path) -> None:
    """Remove the states in a folder, and nothing else that may lie there."""
    if folder.is_dir():
        for path in folder.iterdir():
            if _STATE_FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)
