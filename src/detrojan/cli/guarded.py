"""A guard and its model in one folder, and the answers of a model that is guarded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrojan.cli.inputs import load_data
from detrojan.errors import DataError, InputError, ModelError, OptionError

if TYPE_CHECKING:
    import torch

    from detrojan.cli.options import DataOptions
    from detrojan.data.dataset import Dataset
    from detrojan.guards.base import Calibrated
    from detrojan.models.classifier import Classifier
    from detrojan.run import Run

_MODEL = "model.json"


def bundle_files() -> tuple[str, ...]:
    """Return the names of all files that a guard's folder may hold."""
    return ("guard.json", "guard.safetensors", _MODEL, "scores.png", *_model_files())


def _model_files() -> tuple[str, ...]:
    """Return the names that the model of a guard's folder may have: one for each kind of file."""
    from detrojan.models.writing import usual_endings  # noqa: PLC0415 - imports torch

    return tuple(f"model{ending}" for ending in usual_endings())


def check_bundle(folder: Path) -> None:
    """Refuse a folder with a model that no guard has put there: a new guard's model would replace it.

    Raises:
        InputError: such a model.

    """
    if (folder / "guard.json").is_file():
        return
    for name in (_MODEL, *_model_files()):
        if (folder / name).exists():
            raise InputError(
                f"expected a folder of the guard's own to write to, got {folder} with a {name} that may be "
                "overwritten by the guard's copy of the model"
            )


def save_bundle(guard: Calibrated, folder: Path) -> None:
    """Write a guard and its model to a folder that can be put into service by itself.

    The model of an older guard is removed last; no other file is.

    Raises:
        InputError: the folder cannot be written.
        ModelError: the model cannot be written.

    """
    from detrojan.files import save_text  # noqa: PLC0415
    from detrojan.models.metadata import metadata_of  # noqa: PLC0415 - imports torch
    from detrojan.models.writing import save_model, usual_ending  # noqa: PLC0415

    model = guard.model
    new, old = folder / f"model{usual_ending(model)}", _older_model(folder)
    guard.save(folder)
    save_model(model, new)
    save_text(folder / _MODEL, json.dumps({"file": new.name, "metadata": metadata_of(model)}, indent=2))
    if old is None or old.samefile(new) or _is_original(old, model):
        return
    try:
        old.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error


def _older_model(folder: Path) -> Path | None:
    """Return the model's file that an older guard has put into the folder, if there is one."""
    try:
        name = json.loads((folder / _MODEL).read_text("utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return folder / name if name in _model_files() and (folder / name).is_file() else None


def _is_original(path: Path, model: Classifier) -> bool:
    original = Path(model.origin.path)
    return bool(model.origin.path) and original.exists() and path.samefile(original)


def bundled_guard(folder: Path, run: Run, *, factory: str | None = None) -> Calibrated:
    """Read a guard and its model from the folder that `save_bundle` wrote.

    Args:
        folder: where they lie.
        run: the device.
        factory: the user's own code that makes the network; what the folder says is never run.

    Raises:
        DataError: no guard there.
        ModelError: its model cannot be read, or is another one.

    """
    from detrojan.guards.base import load_guard, read_record  # noqa: PLC0415 - imports torch
    from detrojan.models.loading import load_model  # noqa: PLC0415
    from detrojan.models.metadata import parse_metadata  # noqa: PLC0415
    from detrojan.models.nets import NETS  # noqa: PLC0415

    read_record(folder)
    path = folder / _MODEL
    try:
        record = json.loads(path.read_text("utf-8"))
        name, metadata = str(record["file"]), dict(record["metadata"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the description of a guarded model: {type(error).__name__}"
        ) from error
    if Path(name).name != name or not name.startswith("model."):
        raise DataError(f"{path}: expected a file model.* of the same folder, got {name!r}")
    stated = parse_metadata(metadata, path)
    if ":" in stated.net and factory is None:
        raise ModelError(f"{folder}: expected --factory, as {stated.net} made the network")
    model = load_model(
        folder / name,
        net=stated.net if stated.net in NETS else None,
        factory=factory,
        preprocessing=stated.preprocessing,
        class_names=stated.class_names,
        input_shape=stated.input_shape,
    )
    return load_guard(folder, model.to(run.device))


def guard_for(folder: Path, model: Classifier) -> Calibrated:
    """Read a guard for a model that is loaded already."""
    from detrojan.guards.base import load_guard  # noqa: PLC0415 - imports torch

    return load_guard(folder, model)


def read_images(images: tuple[Path, ...], options: DataOptions, run: Run) -> tuple[Dataset, list[str]]:
    """Return pictures, or the images of --data, each with its name: its file, or its place in the data.

    Raises:
        DataError: they cannot be read.

    """
    import torch  # noqa: PLC0415

    from detrojan.cli.positions import in_source  # noqa: PLC0415
    from detrojan.data.reading import read_data  # noqa: PLC0415 - imports torch

    if not images:
        data = load_data(options, run)
        places = in_source(data, torch.arange(len(data))).tolist()
        return data, list(data.files) or [f"{data.source}[{place}]" for place in places]
    data = read_data(images, data_range=options.data_range, resize=options.resize, unlabelled=True)
    return data, list(data.files)


def check_images(images: tuple[Path, ...], options: DataOptions) -> None:
    """Refuse pictures and --data together, none of both, and pictures with what only data have.

    Raises:
        OptionError: such options.

    """
    if bool(images) == (options.data is not None):
        raise OptionError("expected pictures or --data, one of the two")
    given = {"--split": options.split, "--samples": options.samples, "--crop": options.crop or None}
    for name, value in given.items():
        if images and value is not None:
            raise OptionError(f"expected {name} with --data only, got it with pictures")


def guard_rows(
    guard: Calibrated, data: Dataset, names: list[str], scores: torch.Tensor, *, as_class: bool = False
) -> list[dict[str, Any]]:
    """Return for each image its name, the answer, the guard's statistic and its verdict.

    With `as_class` a backdoored input is answered with one more class than the model has. A number that
    is not finite is None: the model's answers overflow, and such an input counts as backdoored.
    """
    from detrojan.models.surgery.n_plus_one import BACKDOORED  # noqa: PLC0415 - imports torch

    model = guard.model
    best = model.probabilities(data.images).max(1)
    bad = guard.suspicious(scores).tolist()
    values = (scores * guard.sign).tolist()
    rows = []
    for number, name in enumerate(names):
        label = int(best.indices[number])
        named = model.class_name(label)
        if as_class and bad[number]:
            label, named = model.num_classes, BACKDOORED
        rows.append(
            {
                "input": name,
                "label": label,
                "class_name": named,
                "probability": _rounded(float(best.values[number])),
                guard.statistic: _rounded(values[number]),
                "backdoored": bad[number],
            }
        )
    return rows


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def overflow_warnings(rows: list[dict[str, Any]], statistic: str) -> list[str]:
    """Return what a person has to know of rows that were judged without a number; often nothing."""
    from detrojan.words import plural  # noqa: PLC0415

    lost = sum(row[statistic] is None for row in rows)
    if not lost:
        return []
    return [
        f"{plural(lost, 'input')} called backdoored without {statistic}: there the network's answers overflow"
    ]


def guard_table(rows: list[dict[str, Any]], statistic: str) -> Any:
    """Return the rows as a table; what is called backdoored stands out."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from detrojan.words import number, percent, printable  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.caption, table.caption_justify = " ".join(overflow_warnings(rows, statistic)) or None, "left"
    table.add_column("Input", overflow="fold")
    for name in ("label", "class", "probability", statistic, "verdict"):
        table.add_column(name, justify="left" if name in {"class", "verdict"} else "right", overflow="fold")
    for row in rows:
        style = "bold red" if row["backdoored"] else ""
        verdict = "backdoored" if row["backdoored"] else "no evidence"
        cells = (
            *(row["input"], str(row["label"]), row["class_name"], percent(row["probability"])),
            *(number(row[statistic], 4), verdict),
        )
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    return table
