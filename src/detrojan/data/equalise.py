"""Histogram equalisation: the preprocessing of the nine-class traffic-sign study."""

from __future__ import annotations

import torch

#: brightness levels that are told apart
LEVELS = 256
#: the weights of red, green and blue in brightness (ITU-R BT.601)
_LUMA = (0.299, 0.587, 0.114)


def equalise(images: torch.Tensor) -> torch.Tensor:
    """Spread the brightness of each image evenly over [0, 1], keeping its hues.

    Each pixel's brightness Y gets a new value Y' by the image's own cumulative histogram (256
    levels), and all its channels are multiplied by Y' / Y. The factors count as constants for
    gradients: the histogram itself is a staircase, whose gradient is zero almost everywhere.

    Args:
        images: (N, C, H, W) with 1 or 3 channels, in [0, 1].

    Returns:
        Equalised copies, in [0, 1]; an image of one single brightness stays as it is.

    """
    if len(images) == 0:
        return images.clone()
    with torch.no_grad():
        weights = images.new_tensor(_LUMA if images.shape[1] == 3 else (1.0,))
        luma = (images * weights[:, None, None]).sum(dim=1).flatten(1)
        levels = (luma * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)
        counts = luma.new_zeros(len(images), LEVELS).scatter_add_(1, levels, torch.ones_like(luma))
        below = counts.cumsum(dim=1)
        darkest = below.gather(1, levels.amin(dim=1, keepdim=True))
        span = luma.shape[1] - darkest
        spread = ((below - darkest) / span.clamp(min=1)).gather(1, levels)
        # black stays black whatever the factor, so its brightness only has to be kept from being 0
        gain = torch.where(span > 0, spread / luma.clamp(min=0.5 / (LEVELS - 1)), torch.ones_like(luma))
        gain = gain.view(len(images), 1, *images.shape[2:])
    return (images * gain).clamp(0, 1)
