"""The networks of timm and torchvision, as `timm:NAME` and `torchvision:NAME`; nothing is downloaded."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from detrojan.errors import DetrojanError, ModelError, OptionError
from detrojan.extras import require
from detrojan.models.preprocessing import Framing, Interpolation, Preprocessing

LIBRARIES = ("timm", "torchvision")
EXTRA = "timm"
#: what both libraries resize by, as they call it
_KNOWN: dict[str, Interpolation] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "random": "bilinear",
}
#: the share of a picture that timm cuts out where nothing says another
_SHARE = 0.875
_LONGEST = 4096
#: options of timm's networks that a file may state: they say what is computed, and name no place
_OPTIONS = (
    *("num_classes", "in_chans", "img_size", "patch_size", "global_pool", "drop_rate", "drop_path_rate"),
    *("window_size", "dynamic_img_size", "strict_img_size", "class_token", "reg_tokens", "qkv_bias"),
    *("embed_dim", "depth", "num_heads", "mlp_ratio", "init_values", "depths", "dims", "layers", "channels"),
    *("output_stride", "num_features", "act_layer", "norm_layer", "fc_norm", "pool_size"),
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a library says of one of its networks.

    Attributes:
        shape: (C, H, W) that it is fed.
        classes: how many it tells apart if nobody says otherwise.
        preprocessing: how its published weights want their pictures.

    """

    shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing


def is_library(name: str) -> bool:
    """Tell whether a name is one of a library's networks, whether or not there is such a network."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_names(pattern: str) -> list[str]:
    """Return the networks whose names fit a pattern such as `timm:resnet*`, in alphabetical order.

    Raises:
        MissingExtraError: the library is not installed.

    """
    library, _, rest = pattern.partition(":")
    return [f"{library}:{name}" for name in sorted(_all(library)) if fnmatchcase(name, rest or "*")]


def facts(name: str) -> Facts:
    """Return what the library says of a network.

    Raises:
        OptionError: there is no such network; the message names those that are called nearly so.
        MissingExtraError: the library is not installed.

    """
    library, _, rest = name.partition(":")
    known = _all(library)
    if rest.partition(".")[0] not in known:
        near = difflib.get_close_matches(rest, known, n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise OptionError(
            f"expected a network of {library}, got {rest!r:.80}{hint} (detrojan list nets '{library}:*')"
        )
    return _timm_facts(rest) if library == "timm" else _torchvision_facts(rest)


def build(name: str, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return a network of a library, untrained.

    Args:
        name: library and name, e.g. "timm:resnet18".
        classes: number of classes.
        shape: (C, H, W) of its input.

    Raises:
        ModelError: the library does not build it so.

    """
    library, _, rest = name.partition(":")
    usual = facts(name).shape
    options: dict[str, Any] = {"num_classes": classes}
    try:
        with warnings.catch_warnings():  # of how weights are started, which are read afterwards
            warnings.simplefilter("ignore")
            if library == "timm":
                return _build_timm(rest, usual, shape, options)
            return _build_torchvision(rest, usual, shape, options)
    except DetrojanError:
        raise
    except Exception as error:  # a library may raise anything where it does not support a size
        raise ModelError(f"{name} cannot be built for images of {shape}: {error}") from error


def _build_timm(
    name: str, usual: tuple[int, int, int], shape: tuple[int, int, int], options: dict[str, Any]
) -> nn.Module:
    timm = imported("timm")
    if shape[0] != usual[0]:
        options["in_chans"] = shape[0]
    if shape[1:] != usual[1:] and _fixed(timm.get_pretrained_cfg(name)):
        options["img_size"] = shape[1:]
    network: nn.Module = timm.create_model(name, pretrained=False, **options)
    return network


def build_by_timm(name: str, options: Mapping[str, Any], where: str) -> nn.Module:
    """Return a network as a file asks timm for it, untrained.

    Args:
        name: of the network.
        options: how it is built; those that would fetch or read something are refused, and so are deep ones.
        where: the file, for error texts.

    Raises:
        ModelError: a network that timm does not know, or does not build so.

    """
    timm = imported("timm")
    if not timm.is_model(name):
        raise ModelError(f"{where}: expected a network that timm {timm.__version__} knows, got {name!r:.80}")
    wrong = [key for key in options if key not in _OPTIONS]
    if wrong:
        raise ModelError(
            f"{where}: expected options of its network out of {', '.join(_OPTIONS)}, got {wrong[0]!r:.60}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(name, pretrained=False, **options)
    except Exception as error:  # the library may raise anything where options make no sense
        raise ModelError(f"{where}: its network cannot be built: {error}") from error
    return network


def _fixed(config: Any) -> bool:
    return bool(config is not None and config.fixed_input_size)


def _build_torchvision(
    name: str, usual: tuple[int, int, int], shape: tuple[int, int, int], options: dict[str, Any]
) -> nn.Module:
    if shape[0] != usual[0]:
        raise ModelError(f"expected colour images for torchvision:{name}, got {shape[0]} channels")
    if name in {"googlenet", "inception_v3"}:
        options["init_weights"] = False
    if name.startswith("vit_") and shape[1:] != usual[1:]:
        options["image_size"] = shape[1]
    network: nn.Module = imported("torchvision.models").get_model(name, weights=None, **options)
    return network


def suited(said: Preprocessing, usual: tuple[int, int, int], shape: tuple[int, int, int]) -> Preprocessing:
    """Return a library's preprocessing for images of another shape than the usual one.

    Grey images get the average of the colours' mean and standard deviation. How pictures are framed is not
    known for another size.
    """
    if shape[0] != usual[0]:
        mean, std = ((sum(values) / len(values),) for values in (said.mean, said.std))
        said = replace(said, mean=mean, std=std)
    return said if shape[1:] == usual[1:] else replace(said, framing=None)


def imported(module: str) -> Any:
    """Import one of the libraries.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: it does not import beside the PyTorch that is installed.

    """
    library = module.partition(".")[0]
    try:
        require("torchvision", extra=EXTRA, what=f"networks of {library}")  # timm needs it too
        return require(module, extra=EXTRA, what=f"networks of {library}")
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        raise ModelError(
            f"{library} does not work beside PyTorch {torch.__version__} ({error}); install a pair that does "
            f'with: pip install "detrojan[{EXTRA}]"'
        ) from error


def _all(library: str) -> list[str]:
    if library == "timm":
        found: list[str] = imported("timm").list_models()
    else:
        models = imported("torchvision.models")
        found = models.list_models(module=models)
    return found


def _timm_facts(name: str) -> Facts:
    config = imported("timm").get_pretrained_cfg(name)
    said = {} if config is None else config.to_dict()
    preprocessing, size = as_timm_says(said)
    shape = (int(said.get("input_size", (3,))[0]), *size)
    return Facts(shape=shape, classes=int(said.get("num_classes") or 1000), preprocessing=preprocessing)


def as_timm_says(said: Mapping[str, Any]) -> tuple[Preprocessing, tuple[int, int]]:
    """Return the preprocessing that a `pretrained_cfg` of timm states, and (H, W) of what it makes.

    Raises:
        ValueError: it makes no sense.
        TypeError: the same.

    """
    _, height, width = (int(side) for side in said.get("input_size") or (3, 224, 224))
    share = float(said.get("crop_pct") or _SHARE)
    if not (1 <= height <= _LONGEST and 1 <= width <= _LONGEST and 0 < share <= 1):
        raise ValueError(
            f"expected sides of 1 to {_LONGEST} and a crop of 0 to 1, got {height}x{width}, {share:g}"
        )
    sides = (math.floor(height / share), math.floor(width / share))
    squashed = said.get("crop_mode") == "squash" or sides[0] != sides[1]
    framing = Framing(
        resize=sides if squashed else sides[0],
        crop=(height, width),
        interpolation=_KNOWN.get(str(said.get("interpolation") or "bicubic"), "bilinear"),
    )
    mean = tuple(float(value) for value in said.get("mean") or (0.485, 0.456, 0.406))
    std = tuple(float(value) for value in said.get("std") or (0.229, 0.224, 0.225))
    if not all(map(math.isfinite, (*mean, *std))):
        raise ValueError(f"expected finite numbers, got mean {mean} and std {std}")
    return Preprocessing(mean=mean, std=std, framing=framing), (height, width)


def _torchvision_facts(name: str) -> Facts:
    weights = imported("torchvision.models").get_model_weights(name)
    default = getattr(weights, "DEFAULT", None)
    if default is None:  # nothing was published for it
        return Facts(
            shape=(3, 224, 224), classes=1000, preprocessing=as_timm_says({"interpolation": "bilinear"})[0]
        )
    made = default.transforms()
    crop, resize = int(made.crop_size[0]), [int(side) for side in made.resize_size]
    framing = Framing(
        resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
        crop=(crop, crop),
        interpolation=_KNOWN.get(made.interpolation.value, "bilinear"),
        antialias=bool(made.antialias),
    )
    preprocessing = Preprocessing(mean=tuple(made.mean), std=tuple(made.std), framing=framing)
    return Facts(shape=(3, crop, crop), classes=len(default.meta["categories"]), preprocessing=preprocessing)
