"""Which label of a network of ImageNet's classes each WordNet id is, as timm numbers them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from detrojan.errors import MissingExtraError, ModelError
from detrojan.models.library_nets import imported

#: a network of fewer classes may have any of ImageNet's
_FEWEST = 1000
#: names of a network that have to be ImageNet's at their labels
_AGREEING = 0.9
_IGNORED = re.compile(r"[\W_]+")


def synsets(classes: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the WordNet id of each label of a network that tells ImageNet's classes apart.

    The number of classes says which set it is: ImageNet's 1000, or a larger one that timm knows. With 1001
    the first is the background, as in TensorFlow's networks.

    Args:
        classes: how many the network has.
        names: of its classes, or empty; nearly all have to be ImageNet's in ImageNet's order.

    Returns:
        One id for each class; an empty name for the background. Nothing where it is another set, where the
        names say something else, or where timm is not installed.

    """
    background = classes == _FEWEST + 1
    wanted = classes - background
    if wanted < _FEWEST:
        return ()
    info = _info(wanted)
    if info is None:
        return ()
    said = tuple(names)[background:]
    if said:
        right = sum(_alike(name, info.index_to_description(label)) for label, name in enumerate(said))
        if right < _AGREEING * wanted:
            return ()
    return ("",) * background + tuple(info.label_names())


def _info(classes: int) -> Any:
    """Return what timm knows of the set with so many classes; None where it knows none."""
    try:
        data = imported("timm.data")
    except (MissingExtraError, ModelError):
        return None
    subset = data.infer_imagenet_subset({"num_classes": classes})
    return None if subset is None else data.ImageNetInfo(subset)


def _alike(name: str, described: str) -> bool:
    """Tell whether a class goes by one of the names that describe another."""
    return bool(_names(name) & _names(described))


def _names(text: str) -> set[str]:
    return {plain for piece in text.split(",") if (plain := _IGNORED.sub("", piece).casefold())}
