"""Where each tensor of a network lies in a Keras file, and how Keras turns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

#: how Keras lays an array out: as PyTorch does; a convolution's (H, W, in, out); a depthwise one's
#: (H, W, in, multiplier); a dense kernel (in, out); one that is applied to each pixel, (in, out); a
#: convolution's (1, 1, in, out) that is a dense kernel to us
Turn = Literal["same", "conv", "depthwise", "dense", "pointwise", "head"]
_RANKS = {"conv": 4, "depthwise": 4, "dense": 2, "pointwise": 2, "head": 4}


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
        value = torch.from_numpy(np.array(array, dtype=np.float32))
        if self.turn == "conv":
            value = value.permute(3, 2, 0, 1)
        elif self.turn == "depthwise":
            height, width, channels, times = self.shape
            value = value.permute(2, 3, 0, 1).reshape(channels * times, 1, height, width)
        elif self.turn == "pointwise":
            value = value.T[:, :, None, None]
        elif self.turn == "head":
            value = value[0, 0].T
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
        elif self.turn == "pointwise":
            value = value[:, :, 0, 0].T
        elif self.turn == "head":
            value = value.T[None, None]
        elif self.turn == "dense":
            if self.maps is not None:
                channels, height, width = self.maps
                value = value.reshape(-1, channels, height, width).permute(0, 2, 3, 1).flatten(1)
            value = value.T
        array: np.ndarray[Any, Any] = value.contiguous().numpy()
        return array

    def torch_shape(self) -> tuple[int, ...] | None:
        """Return the shape the tensor has in PyTorch; None where the array has not the axes for it."""
        if len(self.shape) != _RANKS.get(self.turn, len(self.shape)):
            return None
        if self.turn == "conv":
            height, width, before, after = self.shape
            return after, before, height, width
        if self.turn == "depthwise":
            height, width, channels, times = self.shape
            return channels * times, 1, height, width
        if self.turn == "pointwise":
            return self.shape[1], self.shape[0], 1, 1
        if self.turn == "head":
            return self.shape[3], self.shape[2]
        return self.shape[::-1] if self.turn == "dense" else self.shape
