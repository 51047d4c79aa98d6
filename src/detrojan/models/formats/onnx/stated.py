"""What an ONNX file's metadata say of its classes and of its preprocessing."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from detrojan.models.preprocessing import Preprocessing

_NAMES = ("names", "class_names", "classes", "labels", "id2label", "class_labels")
_MEANS, _STDS = ("mean", "image_mean", "means"), ("std", "image_std", "stds")
#: ONNX's own entry for what black and white are
_RANGES = {
    "NominalRange_0_255": (0.0, 255.0),
    "Normalized_0_1": (0.0, 1.0),
    "Normalized_1_1": (-1.0, 1.0),
}
_LONGEST = 1 << 20


def _read(text: str) -> Any:
    """Return JSON, a Python literal, or the parts of a text; nothing is run."""
    if len(text) > _LONGEST:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return [part.strip() for part in re.split(r"[\n,;]", text) if part.strip()]


def class_names(metadata: Mapping[str, str], classes: int) -> tuple[str, ...]:
    """Return one name per class; empty where the metadata have none, or another number of them."""
    for key in _NAMES:
        found = _read(metadata[key]) if key in metadata else None
        if isinstance(found, dict) and len(found) == classes:
            by_number = {str(number): name for number, name in found.items()}
            found = [by_number.get(str(number)) for number in range(classes)]
        if isinstance(found, list) and len(found) == classes and all(isinstance(n, str) and n for n in found):
            return tuple(found)
    return ()


def preprocessing(metadata: Mapping[str, str], channels: int, *, whole: bool) -> Preprocessing | None:
    """Return the preprocessing that the metadata state; None where they state none.

    Args:
        metadata: texts by name.
        channels: of the images.
        whole: whether the graph takes whole numbers, 0 to 255.

    """
    mean, std = (_numbers(metadata, keys, channels) for keys in (_MEANS, _STDS))
    low, high = _RANGES.get(metadata.get("Image.NominalPixelRange", ""), (0.0, 255.0 if whole else 1.0))
    if mean is None or std is None or min(std) <= 0:
        return None if (low, high) == (0.0, 1.0) else Preprocessing(low=low, high=high)
    if max(map(abs, mean)) > 2 and (low, high) == (0.0, 1.0):  # they count in 0 to 255
        high = 255.0
    return Preprocessing(low=low, high=high, mean=mean, std=std)


def _numbers(metadata: Mapping[str, str], keys: tuple[str, ...], channels: int) -> tuple[float, ...] | None:
    for key in keys:
        found = _read(metadata[key]) if key in metadata else None
        found = [found] if isinstance(found, int | float) else found
        if not isinstance(found, list | tuple) or len(found) not in {1, channels}:
            continue
        try:
            numbers = tuple(float(one) for one in found)
        except (TypeError, ValueError, OverflowError):
            continue
        if all(map(math.isfinite, numbers)):
            return numbers
    return None
