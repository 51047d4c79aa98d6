"""Reads which samples of a data set are known to be poisoned: what filters and trainers are scored with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detrojan.errors import DataError

if TYPE_CHECKING:
    import torch

#: positions of poisoned samples take no more room than this
_MOST_BYTES = 1 << 26


def read_positions(path: Path, count: int) -> torch.Tensor:
    """Return the array `indices` of an .npz file as positions of samples, (P,) int64, ascending.

    Args:
        path: the file.
        count: how many samples there are.

    Raises:
        DataError: no such array, or positions beyond the samples.

    """
    import zipfile  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("indices.npy").file_size > _MOST_BYTES:
                raise DataError(f"{path}: expected at most {_MOST_BYTES:,} bytes of indices")
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays["indices"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: expected an .npz file with the array indices: {error}") from error
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise DataError(f"{path}: expected indices as whole numbers (P,), got {found.dtype} {found.shape}")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= count:
        raise DataError(f"{path}: expected indices of 0 to {count - 1}, got {low} to {high}")
    return torch.from_numpy(np.unique(found).astype(np.int64))
