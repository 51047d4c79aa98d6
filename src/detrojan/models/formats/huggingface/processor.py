"""What preprocessor_config.json says: how a picture becomes the network's input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detrojan.errors import ModelError
from detrojan.models.preprocessing import Channels, Framing, Interpolation, Preprocessing

Size = tuple[int, int]
#: Pillow's numbers for what a picture is resized by
_RESAMPLE: dict[Any, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_WHITE = 255
#: no image that a classifier takes has a longer side
_LONGEST = 4096
#: processors of these types resize to a larger size and cut, unless the size is at least this one
_CUTS_BELOW = 384


def preprocessing_of(said: Mapping[str, Any], where: str) -> tuple[Preprocessing, Size | None]:
    """Return the preprocessing, and (H, W) of what it makes where it says so.

    Args:
        said: what the file says.
        where: the file, for error texts.

    Raises:
        ModelError: what it says makes no sense, or is not supported.

    """
    try:
        framing, made = _framing(said)
        low, high, mean, std = _numbers(said)
        order: Channels = "BGR" if said.get("do_flip_channel_order") else "RGB"
        found = Preprocessing(low=low, high=high, mean=mean, std=std, channels=order, framing=framing)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ModelError(f"{where}: its preprocessing cannot be read: {error}") from error
    if found.channels == "BGR" and len(set(mean)) + len(set(std)) > 2:
        raise ModelError(f"{where}: expected one mean and one std for channels that are flipped, got several")
    return found, made


def _numbers(said: Mapping[str, Any]) -> tuple[float, float, tuple[float, ...], tuple[float, ...]]:
    """Return black, white, mean and standard deviation in the network's units."""
    low, high = 0.0, float(_WHITE)
    if said.get("do_rescale", True):
        high = _WHITE * float(said.get("rescale_factor", 1 / _WHITE))
        if said.get("rescale_offset"):
            low, high = -1.0, high - 1.0
    mean, std = _values(0), _values(1)
    if said.get("do_normalize", "image_mean" in said):
        mean, std = _values(said["image_mean"]), _values(said["image_std"])
        if said.get("include_top") and _type(said).startswith("EfficientNet"):
            std = tuple(value * value for value in std)  # its processor divides a second time
    if not all(map(math.isfinite, (low, high, *mean, *std))):
        raise ValueError("expected finite numbers")
    return low, high, mean, std


def _values(numbers: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in (numbers if isinstance(numbers, list) else [numbers]))


def _type(said: Mapping[str, Any]) -> str:
    return str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")


def _framing(said: Mapping[str, Any]) -> tuple[Framing | None, Size | None]:
    """Return how a picture is framed, and the size that comes out; None where it stays as it is."""
    crop = _both(said.get("crop_size")) if said.get("do_center_crop") else None
    if not said.get("do_resize", "size" in said) or said.get("size") is None:
        return None, crop
    resize = _resize(said["size"], _type(said))
    if isinstance(resize, int) and said.get("crop_pct"):
        resize, crop = _by_share(resize, float(said["crop_pct"]), crop)
    how = _RESAMPLE.get(said.get("resample", 2))
    if how is None:
        raise ValueError(f"expected a resampling of 0 to 3, got {said.get('resample')!r:.40}")
    made = crop or (resize if isinstance(resize, tuple) else None)
    return Framing(resize=resize, crop=crop, interpolation=how), made


def _resize(size: Any, kind: str) -> int | Size:
    if isinstance(size, dict):
        if "shortest_edge" in size:
            shortest = _side(size["shortest_edge"])
            return shortest * 256 // 224 if kind.startswith("Levit") else shortest
        return _side(size["height"]), _side(size["width"])
    if isinstance(size, list):
        return _both(size) or (1, 1)
    side = _side(size)
    # older files give one number: the shorter side for those that keep the proportions, else both
    keeps = ("ConvNext", "ResNet", "CLIP", "MobileNet", "Levit", "PoolFormer", "Bit", "Regnet")
    return side if kind.startswith(keeps) else (side, side)


def _by_share(side: int, share: float, crop: Size | None) -> tuple[int | Size, Size]:
    """Return what to resize to and what to cut out, where the cut is a share of the picture."""
    if not 0 < share <= 1:
        raise ValueError(f"expected a crop_pct above 0 and up to 1, got {share:g}")
    if crop is None and side >= _CUTS_BELOW:
        return (side, side), (side, side)
    return _side(int(side / share)), crop or (side, side)


def _both(size: Any) -> Size | None:
    if size is None:
        return None
    if isinstance(size, dict):
        return _side(size["height"]), _side(size["width"])
    height, width = size if isinstance(size, list) else (size, size)
    return _side(height), _side(width)


def _side(side: Any) -> int:
    number = int(side)
    if not 1 <= number <= _LONGEST:
        raise ValueError(f"expected sides of 1 to {_LONGEST}, got {number}")
    return number
