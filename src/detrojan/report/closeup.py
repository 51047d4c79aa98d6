"""A patch seen from near: cut out, enlarged, and on a checkerboard, so that dark ones are seen too."""

from __future__ import annotations

import torch

from detrojan.triggers.patch import PatchTrigger

#: the longer side that a close-up is enlarged to, in pixels, and the edge of a field of its board
SIDE, FIELD = 144, 8
#: the grey levels of the board, 0 to 1
LEVELS = (0.42, 0.58)
#: a pixel belongs to the patch where its mask is so large a share of the largest one
PART = 0.1


def closeup(trigger: PatchTrigger) -> torch.Tensor:
    """Return a patch on a checkerboard of mid-grey, (C, h, w) in [0, 1].

    The pattern shows where the mask is, and nowhere else: elsewhere it is what a search began with. The
    mask is stretched to 1, so that a faint patch is seen. Each pixel becomes a square.
    """
    mask = trigger.mask.detach().cpu().float().nan_to_num(0).clamp(0, 1).amax(0)
    strongest = float(mask.max())
    top, bottom, left, right = _box(mask, strongest)
    alpha = mask[top:bottom, left:right] / (strongest or 1.0)
    pattern = trigger.pattern.detach().cpu().float().nan_to_num(0).clamp(0, 1)[:, top:bottom, left:right]
    times = max(1, -(-SIDE // max(alpha.shape)))
    alpha, pattern = _enlarged(alpha, times), _enlarged(pattern, times)
    height, width = alpha.shape
    fields = torch.arange(height)[:, None] // FIELD + torch.arange(width)[None] // FIELD
    board = torch.tensor(LEVELS)[fields % 2]
    return alpha * pattern + (1 - alpha) * board


def _box(mask: torch.Tensor, strongest: float) -> tuple[int, int, int, int]:
    """Return where the patch lies, with a pixel around it: top, bottom, left and right, the ends excluded."""
    height, width = mask.shape
    part = mask >= PART * strongest
    if not strongest or not part.any():
        return 0, height, 0, width
    rows, columns = part.any(1).nonzero().flatten(), part.any(0).nonzero().flatten()
    return (
        max(0, int(rows[0]) - 1),
        min(height, int(rows[-1]) + 2),
        max(0, int(columns[0]) - 1),
        min(width, int(columns[-1]) + 2),
    )


def _enlarged(values: torch.Tensor, times: int) -> torch.Tensor:
    return values.repeat_interleave(times, -1).repeat_interleave(times, -2)
