"""What each label's row of the last layer looks like beside the other rows."""

from __future__ import annotations

import torch
from torch.nn import functional

#: what is looked at in a row
CLUES = ("turned away", "sum", "largest", "length")


def row_clues(weight: torch.Tensor) -> torch.Tensor:
    """Return four figures of each label's row (4, K), in the order of `CLUES`; high is suspicious.

    They are the mean cosine to the other rows, negated; the sum of the row's weights, which is the label's
    pull on more of every feature; the largest weight; and the distance from the mean row.

    Args:
        weight: of the last linear layer (K, D).

    """
    rows = weight.double()
    unit = functional.normalize(rows, dim=1)
    away = -(unit * (unit.sum(0) - unit)).sum(1) / max(1, len(rows) - 1)
    return torch.stack([away, rows.sum(1), rows.amax(1), (rows - rows.mean(0)).norm(dim=1)])
