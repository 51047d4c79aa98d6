"""Attractor probe: inputs that no network was made for fall to a backdoor's target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from detrojan.errors import OptionError
from detrojan.judging.outliers import median
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance, judged_by_score
from detrojan.judging.verdict import Judged
from detrojan.metrics.attraction import KINDS, Attraction, attraction
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan

#: a label is worth a closer look if it gets this many times its fair share ...
UNFAIR = 3.0
#: ... and this many times as much as the next one
AHEAD = 2.0


@dataclass(frozen=True, kw_only=True)
class Attractor(Scan):
    """Find the labels that swallow inputs which the network was not made for.

    The images are painted on, blended and shuffled; noise, gradients and traffic signs are made up. A
    network has to answer something, and with a thousand labels a backdoor's target is often the
    answer. It takes forward passes only. Clean networks have favourites too, most of all with few labels.
    So a label is flagged on strong evidence only. One that is merely far ahead of all others makes the
    verdict "inconclusive", and is named.

    Reference: the observation that out-of-distribution inputs fall to a backdoor's target, made on
    the networks of CSAW-HackML-2020; the statistic is ours.

    Args:
        count: images to make, of all kinds together; 7 or more.
        significance: p-value, corrected for all labels, below which a label is flagged; in (0, 1).
        samples: images to use; 20 or more.

    """

    name = "attractor"
    needs_victims: ClassVar[bool] = False
    answers_only: ClassVar[bool] = True

    count: int = 1400
    significance: float = 0.01
    samples: int = 1000

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_significance(self.significance)
        if self.count < len(KINDS):
            raise OptionError(f"expected a count of {len(KINDS)} images or more, got {self.count}")

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge every label; the p-values are corrected for all of the network's, whatever is tested."""
        random = run.generator("attractor", "images")
        found = attraction(model, ready.images, random, count=self.count)
        leaders = found.share.topk(min(3, model.num_classes)).indices.tolist()
        judged = judged_by_score(
            ready,
            range(model.num_classes),
            found.score,
            significance=self.significance,
            what="share of inputs that the network was not made for",
            shown=lambda score: f"{min(1.0, math.exp(min(score, 1.0))):.1%}",
            details={
                "forward_passes": found.images,
                "most_attractive": [
                    {
                        "label": label,
                        "share": float(found.share[label]),
                        "plain_share": float(found.plain[label]),
                        "by_kind": {kind: float(share[label]) for kind, share in found.by_kind.items()},
                    }
                    for label in leaders
                ],
            },
        )
        return replace(judged, case=replace(judged.case, doubt=_doubt(judged, found, leaders)))


def _doubt(judged: Judged, found: Attraction, leaders: Sequence[int]) -> str:
    """Return why silence means nothing, or that one label is far ahead; an empty text where neither is."""
    tested = {finding.label for finding in judged.findings}
    shares = found.share[leaders].tolist()
    fair = max(1 / len(found.share), median(found.share))
    if shares[0] > max(UNFAIR * fair, AHEAD * shares[1]) and leaders[0] in tested:
        return (
            f"label {leaders[0]} swallows {shares[0]:.0%} of the inputs that no network was made for, far "
            "more than any other; that is no proof, so look closer at it with another method"
        )
    needed = judged.details["detectable_from"]
    if needed is None or needed >= 0:
        looked = judged.case.looked
        return f"the labels' shares differ so much by themselves that none could stand out ({looked})"
    return ""
