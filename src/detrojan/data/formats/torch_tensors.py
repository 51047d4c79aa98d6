"""Images and labels in files of `torch.save`: a dict or a pair of tensors, read without unpickling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.npz_arrays import Arrays, Header
from detrojan.data.formats.npz_file import is_torch_zip, read_stored, splits_stored
from detrojan.data.source import Array, Source
from detrojan.errors import DataError, ModelError, UnsafeFileError
from detrojan.parsing.torch_arrays import parse_torch_arrays
from detrojan.quarantine import quarantined

#: how a file of older PyTorch begins
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j"


class TorchTensors(Format):
    """Files of `torch.save` with tensors in them."""

    kind = "a .pt file of tensors"
    listed = ((".pt", "PyTorch's tensors: a dict such as images and labels, or a pair of both"),)
    precedence = 14

    def recognises(self, place: Place) -> bool:
        """Tell whether a file was written by `torch.save`."""
        return place.head.startswith(_LEGACY) or is_torch_zip(place)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images."""
        return splits_stored(Tensors(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        found = read_stored(Tensors(place.path), split, unlabelled=unlabelled)
        return replace(found, notes=(*found.notes, "PyTorch's tensors"))


class Tensors(Arrays):
    """The tensors and lists of a file, as arrays.

    Args:
        path: the file.

    Raises:
        UnsafeFileError: reading it would run code.
        DataError: it is damaged, or holds no tensors.

    """

    def __init__(self, path: Path) -> None:
        # PyTorch's tensors are the models' part, which is slow to import
        from detrojan.models.formats.state_dict import stored_tensors  # noqa: PLC0415

        self.path, self.has_pickle = path, False
        try:
            found = quarantined(parse_torch_arrays, path)
            tensors = stored_tensors(found["tensors"], found["storages"], str(path))
        except UnsafeFileError:
            raise
        except ModelError as error:
            raise DataError(str(error)) from error
        known = {
            name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
            for name, tensor in tensors.items()
        }
        self.held: dict[str, Array] = known | {name: np.asarray(one) for name, one in found["lists"].items()}
        self.headers = {name: Header(values.shape, values.dtype) for name, values in self.held.items()}

    def _rows(self, name: str, rows: Array) -> Array:
        return self.held[name][rows]

    def _whole(self, name: str) -> Array:
        return self.held[name]
