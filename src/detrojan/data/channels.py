"""Grey images made colour, and coloured ones grey, where data and network differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from detrojan.data.dataset import Dataset

#: how colours make up a grey (ITU-R 601), as in most image libraries
_GREY = (0.299, 0.587, 0.114)

Colours = Literal["grey", "colour"]


def with_channels(data: Dataset, colours: Colours, *, why: str = "") -> Dataset:
    """Return the data with images of 1 channel (grey) or 3 (colour), and a note where that changes them.

    Colours become grey by their brightness; grey is repeated into three channels.

    Args:
        data: the images.
        colours: what they are to be.
        why: the reason, where nobody has asked for it; the note is then for people to see.

    """
    have = "grey" if data.shape[0] == 1 else "colour"
    if have == colours:
        return data
    if colours == "grey":
        images = made_grey(data.images)
        note = "colour made grey"
    else:
        images = data.images.expand(-1, 3, -1, -1).contiguous()
        note = "grey repeated into 3 channels"
    told = f"warning: {note}, {why}" if why else note
    return replace(data, images=images, notes=(*data.notes, told))


def made_grey(images: torch.Tensor) -> torch.Tensor:
    """Return the brightness (N, 1, H, W) of coloured images (N, 3, H, W) in [0, 1]."""
    weights = torch.tensor(_GREY, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True).clamp(0, 1)
