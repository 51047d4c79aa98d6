"""Which label a network answers where two other classes share an image, as composite backdoors teach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.findings import Finding
from detrojan.judging.outliers import MAD_TO_SIGMA, high_p_values, median
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.judging.verdict import finding
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
from detrojan.triggers.composite import CompositeTrigger, mixed

#: shares beyond these say no more
LEAST, MOST = 0.02, 0.98


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """What is known of one label.

    Attributes:
        label: the label.
        source: the class whose images, mixed with those of `donor`, are answered so most often.
        donor: that class.
        share: of the mixes that are answered so, over the pairs of classes where that is most; 0 to 1.
        p_value: corrected for all labels, 0 to 1.
        index: robust standard deviations above the usual logarithm of the odds, 0 or more.
        success: share of the source's held-out images that arrive, 0 to 1.
        trigger: puts the donors' right halves over images.

    """

    label: int
    source: int
    donor: int
    share: float
    p_value: float
    index: float
    success: float
    trigger: CompositeTrigger

    @property
    def what(self) -> str:
        """What the label answers, in words."""
        return "mixes of two other classes"

    def finding(self) -> Finding:
        """Return what it says of a label that is flagged."""
        return finding(
            self.label,
            aim=Aim(target=self.label, source=self.source),
            index=self.index,
            chance=self.p_value,
            success=self.success,
            flagged=True,
            trigger=self.trigger,
        )

    def facts(self) -> dict[str, Any]:
        """Return the figures, for a report."""
        return {
            "label": self.label,
            "source": self.source,
            "donor": self.donor,
            "share": self.share,
            "p_value": self.p_value,
            "attack_success": self.success,
        }


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """What the look says.

    Attributes:
        evidence: one entry for each label that can be judged, the strongest first.
        answers: forward passes of one sample.

    """

    evidence: tuple[Mixed, ...]
    answers: int

    def flagged(self, significance: float, confirm: float) -> list[Mixed]:
        """Return the evidence that is strong enough."""
        return [one for one in self.evidence if one.p_value < significance and one.success >= confirm]


def look_at_mixtures(model: Classifier, ready: Prepared) -> Mixtures:
    """Put together halves of images of each two classes, and see which other label that gives.

    A network has to answer something where two classes share an image, and without a backdoor that differs
    from pair to pair. The label of a composite backdoor is answered to many pairs. For each label the pairs
    count whose mixes are answered so most often; the odds are compared between labels by a moderated t-test,
    corrected for all labels. A label that the network answers often anyway is allowed higher odds.

    Reference: Lin et al., Composite Backdoor Attack for Deep Neural Network by Mixing Existing Benign
    Features, CCS 2020 (the attack); the test is ours.

    Args:
        model: the network.
        ready: images, and what stands in for their truth.

    """
    images, _ = ready.search
    answers, classes = ready.answers[: len(images)], model.num_classes
    by_class = [images[answers == label][: POLICY.mixed_images] for label in range(classes)]
    shares, asked = _shares(model, by_class)
    if len(shares) < POLICY.mixed_pairs + 2 * classes:
        return Mixtures(evidence=(), answers=asked)
    table = torch.stack(list(shares.values()))
    best = table.topk(POLICY.mixed_pairs, dim=0).values.mean(0).clamp(LEAST, MOST)
    odds = (best / (1 - best)).log()
    usual = torch.bincount(ready.answers, minlength=classes).double() + 1
    favour = POLICY.transform_favour * (usual / usual.median()).log().clamp(min=0)
    chances = high_p_values(odds, POLICY.mixed_spread, favour)
    middle = median(odds)
    scale = max(MAD_TO_SIGMA * median((odds - middle).abs()), POLICY.mixed_spread / 10)
    evidence = []
    for label in ready.tested:
        source, donor = list(shares)[int(table[:, label].argmax())]
        trigger = CompositeTrigger(by_class[donor])
        evidence.append(
            Mixed(
                label=label,
                source=source,
                donor=donor,
                share=float(best[label]),
                p_value=min(1.0, classes * float(chances[label])),
                index=max(0.0, float(odds[label] - middle) / scale),
                success=_success(model, ready, trigger, source, label),
                trigger=trigger,
            )
        )
    return Mixtures(evidence=tuple(sorted(evidence, key=lambda one: one.p_value)), answers=asked)


def _shares(
    model: Classifier, by_class: Sequence[torch.Tensor]
) -> tuple[dict[tuple[int, int], torch.Tensor], int]:
    """Return for each two classes the share of mixes answered by each other label (K,), and the answers."""
    shares: dict[tuple[int, int], torch.Tensor] = {}
    asked = 0
    for source, left in enumerate(by_class):
        for donor, right in enumerate(by_class):
            count = min(len(left), len(right))
            if source == donor or count < POLICY.fewest_of_source:
                continue
            said = model.answers(mixed(left[:count], right[:count]))
            share = torch.bincount(said, minlength=len(by_class)).double() / count
            share[[source, donor]] = 0.0
            shares[source, donor] = share
            asked += count
    return shares, asked


def _success(model: Classifier, ready: Prepared, trigger: CompositeTrigger, source: int, label: int) -> float:
    """Return the share of the source's held-out images that a trigger moves to a label."""
    held = ready.held_out[0][ready.answers[-len(ready.held_out[0]) :] == source][: 4 * POLICY.mixed_images]
    return float((model.answers(trigger.stamp(held)) == label).double().mean()) if len(held) else 0.0
