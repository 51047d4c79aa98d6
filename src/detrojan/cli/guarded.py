"""A guard and its model in one folder, and the answers of a model that is guarded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrojan.cli.inputs import load_data
from detrojan.errors import OptionError

if TYPE_CHECKING:
    import torch

    from detrojan.cli.options import DataOptions
    from detrojan.data.dataset import Dataset
    from detrojan.guards.base import Calibrated
    from detrojan.run import Run


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
