"""What lies in a PyTorch file beside the weights: what of it is harmless, and how it is kept on writing."""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import pathlib
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

log = logging.getLogger(__name__)

#: a pickle is looked through this far, in bytes
_MOST = 1 << 28


def _harmless() -> list[Any]:
    """Return what may stand in a file besides what PyTorch allows: making it runs no code of others."""
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]  # as pickles name them
    kinds = {type(np.dtype(letter)) for letter in "?bBhHiIlLqQefdFDSU"}
    numbers = [np.dtype, np.ndarray, *kinds]
    for old in ("numpy.core.multiarray", "numpy._core.multiarray"):
        numbers += [(scalar, f"{old}.scalar"), (array, f"{old}._reconstruct")]
    times = [dt.datetime, dt.date, dt.timedelta, dt.timezone]
    return [*numbers, *times, argparse.Namespace, pathlib.PosixPath]


def load_plain(path: Path, *, mmap: bool = False) -> Any:
    """Return what a file holds; nothing in it is executed.

    Args:
        path: a file of torch.save.
        mmap: leave the values in the file until they are used.

    Raises:
        pickle.UnpicklingError: reading it would run code.
        Exception: damaged; a damaged pickle can raise anything.

    """
    with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
        warnings.simplefilter("ignore")  # PyTorch warns of pickles that it then refuses
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))


def holds_module(path: Path) -> bool:
    """Tell, without unpickling, whether a file holds a whole network and not its weights alone."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if name is None or archive.getinfo(name).file_size > _MOST:
                return False
            text = archive.read(name)
    else:
        with path.open("rb") as file:
            text = file.read(_MOST)
    return b"_modules" in text and b"_parameters" in text


def with_the_rest(
    tensors: Mapping[str, torch.Tensor], nesting: tuple[str, ...], original: Path
) -> dict[str, Any] | None:
    """Return all that a file holds, with other weights; None where it cannot be read again.

    Args:
        tensors: the weights under the file's own keys.
        nesting: the keys that lead to them.
        original: the file.

    """
    try:
        content = load_plain(original, mmap=True)
        place = content
        for key in nesting:
            place = place[key]
        for key, tensor in tensors.items():
            old = place[key]
            if old.shape != tensor.shape or old.dtype != tensor.dtype:
                log.warning("%s: %s has changed: the weights alone are written", original, key)
                return None
            place[key] = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    except Exception as error:  # noqa: BLE001 - a file that is gone, was changed or needs its code
        log.warning("%s: what it holds beside the weights is not kept: %s", original, error)
        return None
    found: dict[str, Any] = content
    return found
