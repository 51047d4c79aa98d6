"""Where each tensor of a network lies in a Keras file, and how Keras turns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

#: how Keras lays an array out: as PyTorch does; a convolution's (H, W, in, out); a depthwise one's
#: (H, W, in, multiplier); a dense kernel (in, out)
Turn = Literal["same", "conv", "depthwise", "dense"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of one tensor in a Keras file.

    Attributes:
        path: the dataset's path in the HDF5 file.
        turn: how its axes differ from PyTorch's.
        shape: the array's shape in the file.
        maps: (C, H, W) of the maps that a dense layer is fed flattened, where the network flattens
            channels first and Keras channels last; None where both flatten alike.

    """

    path: str
    turn: Turn
    shape: tuple[int, ...]
    maps: tuple[int, int, int] | None = None

    def to_torch(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """Return the file's array as PyTorch wants it, float32."""
        value = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        if self.turn == "conv":
            value = value.permute(3, 2, 0, 1)
        elif self.turn == "depthwise":
            height, width, channels, times = self.shape
            value = value.permute(2, 3, 0, 1).reshape(channels * times, 1, height, width)
        elif self.turn == "dense":
            value = value.T
            if self.maps is not None:
                channels, height, width = self.maps
                value = value.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(1)
        return value.contiguous()

    def to_keras(self, tensor: torch.Tensor) -> np.ndarray[Any, Any]:
        """Return a tensor as the file lays it out."""
        value = tensor.detach().cpu()
        if self.turn == "conv":
            value = value.permute(2, 3, 1, 0)
        elif self.turn == "depthwise":
            height, width, channels, times = self.shape
            value = value.reshape(channels, times, height, width).permute(2, 3, 0, 1)
        elif self.turn == "dense":
            if self.maps is not None:
                channels, height, width = self.maps
                value = value.reshape(-1, channels, height, width).permute(0, 2, 3, 1).flatten(1)
            value = value.T
        array: np.ndarray[Any, Any] = value.contiguous().numpy()
        return array

    def torch_shape(self) -> tuple[int, ...]:
        """Return the shape the tensor has in PyTorch."""
        if self.turn == "conv":
            height, width, before, after = self.shape
            return after, before, height, width
        if self.turn == "depthwise":
            height, width, channels, times = self.shape
            return channels * times, 1, height, width
        return self.shape[::-1] if self.turn == "dense" else self.shape
