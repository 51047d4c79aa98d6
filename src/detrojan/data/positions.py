"""Reads which samples of a data set are known to be poisoned: what filters and trainers are scored with."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detrojan.data.dataset import Dataset
from detrojan.data.formats.npz_arrays import DAMAGE
from detrojan.errors import DataError

#: positions of poisoned samples take no more room than this
_MOST_BYTES = 1 << 26


def read_positions(path: Path, data: Dataset) -> torch.Tensor:
    """Return the array `indices` of an .npz file as positions of samples, (P,) int64, ascending.

    The file tells positions in the data's source; where only some samples of it were drawn, those
    among them are returned as positions in `data`.

    Args:
        path: the file.
        data: the samples.

    Raises:
        DataError: no such array, positions beyond the source's samples, or none of those drawn.

    """
    total = data.total or len(data)
    known = torch.from_numpy(_indices(path, total))
    if data.positions is None:
        return known
    found = torch.isin(data.positions, known).nonzero().flatten()
    if not len(found):
        raise DataError(
            f"{path}: expected indices of samples that were drawn ({len(data):,} of {total:,}), got none"
        )
    return found


def in_source(data: Dataset, places: torch.Tensor) -> torch.Tensor:
    """Return positions in `data` (P,) as positions in the source that the samples were read from (P,)."""
    return places if data.positions is None else data.positions[places]


def _indices(path: Path, count: int) -> NDArray[np.int64]:
    """Return the array `indices` of a file, each of 0 to count - 1 and once, ascending."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("indices.npy").file_size > _MOST_BYTES:
                raise DataError(f"{path}: expected at most {_MOST_BYTES:,} bytes of indices")
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays["indices"]
    except DAMAGE as error:
        raise DataError(f"{path}: expected an .npz file with the array indices: {error}") from error
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise DataError(f"{path}: expected indices as whole numbers (P,), got {found.dtype} {found.shape}")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= count:
        raise DataError(f"{path}: expected indices of 0 to {count - 1}, got {low} to {high}")
    return np.unique(found).astype(np.int64)
