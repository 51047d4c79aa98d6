"""The job of explaining: where in an input that a guard turns away the trigger sits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.files import save_bytes
from detrojan.guards.base import Calibrated
from detrojan.guards.region import Region, find_region
from detrojan.jobs.inputs import load_data
from detrojan.jobs.sources import DataSource
from detrojan.report.pictures import contact_sheet
from detrojan.report.records.explain import Box, Explained, ExplainRecord
from detrojan.run import Run

#: clean images that are read
CLEAN = 200
#: the edge of an input's picture in pixels, and the colour of the frame around its region
SIDE, FRAME = 192, (1.0, 0.0, 0.0)


def explain(guard: Calibrated, image: torch.Tensor, others: torch.Tensor | None = None) -> Region | None:
    """Return the region of an input that its answer rests on, or None where it rests on no part of it.

    Args:
        guard: calibrated.
        image: (C, H, W) in [0, 1].
        others: clean images (M, C, H, W); None for those that the guard holds.

    Raises:
        DataError: images of another shape than the network's.

    """
    return find_region(guard.model, image, guard.clean_images() if others is None else others)


def explain_all(
    guard: Calibrated,
    data: Dataset,
    names: Sequence[str],
    *,
    run: Run,
    others: torch.Tensor | None = None,
    folder: Path | None = None,
) -> ExplainRecord:
    """Explain every input that a guard turns away, and draw it.

    Args:
        guard: calibrated.
        data: the inputs.
        names: one for each.
        run: shows how far it is.
        others: clean images; None for those that the guard holds.
        folder: where a picture of each goes, or None.

    Raises:
        InputError: the folder cannot be written.

    """
    refused = guard.refuses(data.images).nonzero().flatten().tolist()
    answers = guard.model.answers(data.images).tolist()
    rows: list[Explained] = []
    with run.progress.task("explaining", len(refused)) as task:
        for place in refused:
            image = data.images[place]
            region = explain(guard, image, others)
            picture = None
            if folder is not None:
                picture = f"explained-{len(rows):04}.png"
                save_bytes(folder / picture, drawn(image, region))
            rows.append(_explained(guard, names[place], answers[place], region, picture))
            task.advance(1)
    return ExplainRecord(
        guard=guard.method.name,
        inputs=len(data),
        backdoored=len(refused),
        explained=rows,
        skipped=list(data.skipped),
        warnings=list(data.warnings),
    )


def clean_of(guard: Calibrated, path: str | None, source: DataSource, run: Run) -> torch.Tensor:
    """Return the clean images that inputs are explained with: those of a path, or those that the guard holds.

    Args:
        guard: calibrated.
        path: where they lie, or None.
        source: how pictures are read.
        run: the seed that they are drawn with.

    Raises:
        DataError: they cannot be read, or cannot be brought to the network's shape without a guess.

    """
    if path is None:
        return guard.clean_images()
    how = replace(source, data=path, split=None, samples=None, unlabelled=True)
    return load_data(how, run, limit=CLEAN, network=guard.model).images


def _explained(
    guard: Calibrated, name: str, label: int, region: Region | None, picture: str | None
) -> Explained:
    model = guard.model
    found: dict[str, Any] = {"region": None}
    if region is not None:
        found = {
            "region": Box(top=region.top, left=region.left, height=region.height, width=region.width),
            "without_label": region.without,
            "without_class": model.class_name(region.without),
            "removed": region.removed,
            "carried": region.carried,
        }
    return Explained(input=name, label=label, class_name=model.class_name(label), picture=picture, **found)


def drawn(image: torch.Tensor, region: Region | None) -> bytes:
    """Return a PNG: the input, and beside it the same with its region framed in red, or alone without one.

    Args:
        image: (C, H, W) in [0, 1].
        region: what is framed.

    """
    times = max(1, SIDE // min(image.shape[1:]))
    large = image.repeat_interleave(times, 1).repeat_interleave(times, 2)
    large = large.expand(3, -1, -1) if len(large) == 1 else large
    if region is None or len(large) != 3:
        return contact_sheet(large[None], side=SIDE)
    framed, line = large.clone(), max(1, times // 3)
    top, left = region.top * times, region.left * times
    bottom, right = top + region.height * times, left + region.width * times
    colour = torch.tensor(FRAME)[:, None, None]
    inside = framed[:, top:bottom, left:right].clone()
    framed[:, max(0, top - line) : bottom + line, max(0, left - line) : right + line] = colour
    framed[:, top:bottom, left:right] = inside
    return contact_sheet(torch.stack([large, framed]), columns=2, side=SIDE)
