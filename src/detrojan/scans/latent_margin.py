"""Latent margin: a backdoor's target can win by far in the features of the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detrojan.errors import OptionError
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance, judged_by_score
from detrojan.judging.verdict import Judged
from detrojan.metrics.latent_margin import latent_margins
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan


@dataclass(frozen=True, kw_only=True)
class LatentMargin(Scan):
    """Flag the labels that the last layer lets win by an abnormally wide margin.

    For each label, the greatest margin over all others is sought among the features that the last
    linear layer can be fed, each within the range that it has on the images. That costs no backward pass of
    the network, and takes seconds for a thousand labels. Where the trigger works in earlier layers and the
    last one is like any other, nothing is seen.

    Departures from the paper: its margin is maximised over images; this is its last step alone, and
    the test is Student's t for one further observation.

    Reference: Wang et al., MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary
    Backdoor Pattern Types Using a Maximum Margin Statistic, IEEE S&P 2024.

    Args:
        quantile: share of a feature's values that lies below its upper end; in (0.5, 1].
        steps: of the ascent; 1 or more.
        significance: p-value, corrected for all labels, below which a label is flagged; in (0, 1).
        samples: images to use; 20 or more.

    """

    name = "latent_margin"
    needs_victims: ClassVar[bool] = False

    quantile: float = 1.0
    steps: int = 80
    significance: float = 0.05
    samples: int = 1000

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_significance(self.significance)
        if not 0.5 < self.quantile <= 1:
            raise OptionError(f"expected a quantile in (0.5, 1], got {self.quantile:g}")
        if self.steps < 1:
            raise OptionError(f"expected steps of 1 or more, got {self.steps}")

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge every label; the p-values are corrected for all of the network's, whatever is tested.

        Raises:
            ModelError: the network does not end in a linear layer.

        """
        scores = latent_margins(model, ready.images, quantile=self.quantile, steps=self.steps)
        return judged_by_score(
            ready,
            range(model.num_classes),
            scores,
            significance=self.significance,
            what="margin in the last layer's features",
        )
