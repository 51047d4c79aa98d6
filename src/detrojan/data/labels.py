"""From stored labels to whole numbers from 0, without silent guesses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detrojan.data.source import Array
from detrojan.errors import LabelError


def clean_labels(
    values: Array, count: int, class_names: tuple[str, ...], where: str
) -> tuple[NDArray[np.int64], tuple[str, ...], list[str]]:
    """Return labels as (N,) whole numbers from 0, with the class names and notes on what was converted.

    Args:
        values: as stored: whole numbers, floats that are whole, text, (N, 1), or one-hot (N, K).
        count: number of images.
        class_names: names known so far, or empty.
        where: the file, for error texts.

    Raises:
        LabelError: the labels cannot be used.

    """
    notes: list[str] = []
    if values.ndim == 0 or len(values) != count:
        raise LabelError(f"{where}: expected {count} labels, one per image, got shape {values.shape}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if is_text(values):
        values, class_names = _from_text(values, class_names, where)
        notes.append("labels from text")
    if values.dtype.kind not in "biuf":
        raise LabelError(f"{where}: expected whole labels, got {values.dtype}")
    if values.ndim == 2:
        values = _from_one_hot(values, where)
        notes.append("labels from one-hot rows")
    labels = _whole_numbers(values, where)
    if class_names and len(labels) and labels.max() >= len(class_names):
        raise LabelError(
            f"{where}: expected labels below {len(class_names)}, the number of class names, "
            f"got {int(labels.max())}"
        )
    return labels, class_names, notes


def is_text(values: Array | None) -> bool:
    """Tell whether labels are stored as text."""
    return values is not None and values.dtype.kind in "USO"


def _from_text(values: Array, names: tuple[str, ...], where: str) -> tuple[Array, tuple[str, ...]]:
    if not all(isinstance(item, str | bytes) for item in values.ravel().tolist()):
        raise LabelError(f"{where}: expected labels as numbers or text, got other objects")
    texts = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in values.reshape(len(values), -1)[:, 0].tolist()
    ]
    names = names or tuple(sorted(set(texts)))
    places = {name: place for place, name in enumerate(names)}
    strange = next((text for text in texts if text not in places), None)
    if strange is not None:
        raise LabelError(f"{where}: expected labels among the class names, got {strange!r}")
    return np.asarray([places[text] for text in texts], dtype=np.int64), names


def _from_one_hot(values: Array, where: str) -> Array:
    if not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
        raise LabelError(f"{where}: expected one label per image or one-hot rows, got shape {values.shape}")
    classes: Array = values.argmax(axis=1)
    return classes


def _whole_numbers(values: Array, where: str) -> NDArray[np.int64]:
    if values.ndim != 1:
        raise LabelError(f"{where}: expected one label per image, got shape {values.shape}")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise LabelError(f"{where}: expected whole labels, got NaN or infinity")
        broken = values[values != np.round(values)]
        if len(broken):
            raise LabelError(f"{where}: expected whole labels, got {float(broken[0]):g}")
    if len(values) and not 0 <= values.min() <= values.max() < 2**31:
        low, high = int(values.min()), int(values.max())
        if low < 0:
            raise LabelError(
                f"{where}: expected labels from 0, got {low} ({int((values < 0).sum())} of {len(values)} "
                "are negative); read the images without labels with --unlabelled"
            )
        raise LabelError(f"{where}: expected labels below 2^31, got {high}")
    return values.astype(np.int64)
