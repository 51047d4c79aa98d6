"""Reads from a JSON file how images are prepared: our own keys, or Hugging Face's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detrojan.errors import InputError, ModelError
from detrojan.files import refuse_special
from detrojan.models.preprocessing import Framing, Preprocessing

#: no such file is longer
_MOST_BYTES = 1 << 20
_OWN = ("mean", "std", "range", "resize", "crop", "interpolation", "antialias", "channels", "layout")
#: what Pillow calls its filters by number, as Hugging Face writes them
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
#: a ConvNeXT-like processor whose shortest edge is below this resizes to edge / crop_pct and crops
_SMALL_EDGE, _CROP_SHARE = 384, 224 / 256

Values = Mapping[str, Any]


def read_preprocessing(path: Path) -> Preprocessing:
    """Read how images are prepared for a network.

    Args:
        path: a JSON object with some of mean, std, range, resize, crop, interpolation, antialias, channels
            and layout; or Hugging Face's preprocessor_config.json.

    Raises:
        InputError: the file cannot be read, is no plain file, no such object, or has values that make no
            sense.

    """
    refuse_special(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: expected a JSON object of at most {_MOST_BYTES:,} bytes")
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON object, got something else: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, got a {type(values).__name__}")
    try:
        return from_hugging_face(values) if _is_hugging_face(values) else from_values(values)
    except ModelError as error:
        raise InputError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"{path}: expected numbers and sizes in the usual form: {error}") from error


def from_values(values: Values) -> Preprocessing:
    """Return the preprocessing that our own keys state.

    Raises:
        ModelError: a key that is not known, or a value that makes no sense.

    """
    unknown = sorted(set(values) - set(_OWN))
    if unknown:
        raise ModelError(f"expected keys out of {', '.join(_OWN)}, got {', '.join(map(repr, unknown))}")
    low, high = values.get("range", (0, 1))
    framing = None
    if "resize" in values or "crop" in values:
        crop = values.get("crop")
        framing = Framing(
            resize=_side_or_size(values.get("resize", crop)),
            crop=None if crop is None else _size(crop),
            interpolation=values.get("interpolation", "bilinear"),
            antialias=bool(values.get("antialias", True)),
        )
    return Preprocessing(
        low=_number(low),
        high=_number(high),
        mean=_numbers(values.get("mean", 0.0)),
        std=_numbers(values.get("std", 1.0)),
        layout=_layout(values.get("layout", "NCHW")),
        channels=values.get("channels", "RGB"),
        framing=framing,
    )


def from_hugging_face(config: Values) -> Preprocessing:
    """Return the preprocessing that a preprocessor_config.json states.

    Its rescaling gives the range; what it leaves out has the library's usual value.

    Raises:
        ModelError: a value that makes no sense.

    """
    factor = _number(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if config.get("do_normalize", "image_mean" in config):
        mean = _numbers(config.get("image_mean", 0.5))
        std = _numbers(config.get("image_std", 0.5))
    # values of 0 to 255 come in; some processors move them to -1..1 afterwards
    low, high = (-1.0, 255 * factor - 1) if config.get("offset") else (0.0, 255 * factor)
    high = round(high, 6)
    return Preprocessing(low=low, high=high, mean=mean, std=std, framing=_hugging_face_framing(config))


def _is_hugging_face(values: Values) -> bool:
    return any(key in values for key in ("image_mean", "do_normalize", "do_resize", "image_processor_type"))


def _hugging_face_framing(config: Values) -> Framing | None:
    if not config.get("do_resize", "size" in config):
        return None
    resample = config.get("resample", 2)
    if resample not in _FILTERS:
        raise ModelError(f"expected a filter out of {sorted(_FILTERS)} as resample, got {resample!r}")
    resize = _side_or_size(config.get("size", 224))
    crop = _size(config.get("crop_size", 224)) if config.get("do_center_crop") else None
    if "crop_pct" in config and isinstance(resize, int) and resize < _SMALL_EDGE:
        share = _number(config["crop_pct"] or _CROP_SHARE)
        resize, crop = int(resize / share), (resize, resize)
    elif isinstance(resize, int) and crop is None:
        # a plain number, and a shortest edge of 384 and more of such processors, mean both sides
        plain = not isinstance(config.get("size"), Mapping)
        resize = (resize, resize) if plain or "crop_pct" in config else resize
    return Framing(resize=resize, crop=crop, interpolation=_FILTERS[resample])  # type: ignore[arg-type]


def _side_or_size(value: Any) -> int | tuple[int, int]:
    """Read 256, [224, 224], {"shortest_edge": 256} or {"height": 224, "width": 224}."""
    if isinstance(value, Mapping) and "shortest_edge" in value:
        value = value["shortest_edge"]
    return _whole(value) if isinstance(value, int | float) else _size(value)


def _size(value: Any) -> tuple[int, int]:
    """Read one side of a square, or (H, W)."""
    if isinstance(value, Mapping):
        value = (value["height"], value["width"])
    if isinstance(value, int | float):
        value = (value, value)
    height, width = value
    return _whole(height), _whole(width)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ModelError(f"expected a whole number of pixels, got {value!r}")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | str) or not math.isfinite(number := float(value)):
        raise ModelError(f"expected a finite number, got {value!r:.40}")
    return number


def _numbers(value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) not in (1, 3):
        raise ModelError(f"expected 1 or 3 values of mean and std, got {len(values)}")
    return tuple(_number(each) for each in values)


def _layout(value: Any) -> Any:
    if value not in ("NCHW", "NHWC"):
        raise ModelError(f"expected the layout NCHW or NHWC, got {value!r:.40}")
    return value
