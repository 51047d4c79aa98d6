"""Rows of the last layer: poison turns the target's row away from all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from detrojan.judging.outliers import anomaly_indices
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance, judged_by_score
from detrojan.judging.verdict import Judged
from detrojan.metrics.head_rows import CLUES, row_clues
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan

#: a clue beyond so many robust standard deviations counts as if it were there: one alone is not to decide
MOST = 8.0


@dataclass(frozen=True, kw_only=True)
class HeadRows(Scan):
    """Flag the labels whose row of the last layer stands apart from all others.

    Poisoned images of many classes share one label. Training then turns that label's row of the last
    layer away from the others and makes it longer, whatever the trigger looks like. Four clues are read
    from each row, put into robust standard deviations and averaged. That takes milliseconds and no image.

    It sees triggers that no small patch shows, such as warps and triggers drawn for each image. It is
    blind to clean-label attacks, to single source classes and to heads that were trained again. A repair
    that leaves the last layer as it was leaves this mark too. So take it for a hint where to look.

    Departures from the paper: only its idea is used; the clues and the test, Student's t for one further
    observation, are ours.

    Reference: Yu et al., DFBScanner, arXiv 2605.18907, 2026.

    Args:
        significance: p-value, corrected for all labels, below which a label is flagged; in (0, 1).
        samples: images that the preparation looks at; 20 or more.

    """

    name = "head_rows"
    needs_victims: ClassVar[bool] = False

    significance: float = 0.02
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_significance(self.significance)

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge every label; the p-values are corrected for all of the network's, whatever is tested.

        Raises:
            ModelError: the network does not end in a linear layer.

        """
        del run
        weight, _ = model.head_weights()
        clues = deviations(row_clues(weight))
        scores = clues.mean(0)
        first = scores.topk(min(3, len(scores))).indices.tolist()
        return judged_by_score(
            ready,
            range(model.num_classes),
            scores,
            significance=self.significance,
            what="distance of its row of the last layer from the others",
            details={
                "clues": {
                    str(label): dict(zip(CLUES, clues[:, label].tolist(), strict=True)) for label in first
                }
            },
        )


def deviations(clues: torch.Tensor) -> torch.Tensor:
    """Return each clue (4, K) in robust standard deviations above the median, at most 8 either way."""
    return torch.stack([-anomaly_indices(clue) for clue in clues]).clamp(-MOST, MOST)
