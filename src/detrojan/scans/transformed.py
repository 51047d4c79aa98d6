"""Which labels a faint warp or filter reaches far more often than it reaches the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from detrojan.findings import Finding
from detrojan.judging.middle import MEASURING, Middle
from detrojan.judging.outliers import MAD_TO_SIGMA, high_p_values, median
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.judging.verdict import finding
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.pulling import Pull, pull
from detrojan.search.transforms import TRANSFORMS, Transform
from detrojan.triggers.base import Trigger

#: held-out images that each change is judged on
JUDGED = 160
#: each image counts from and to this many usual margins
LEAST, MOST = -1.0, 2.0
#: the change of a label that stands out may be so many times as large, where it fails on held-out images
FURTHER = 1.5


@dataclass(frozen=True, kw_only=True)
class Transformed:
    """What is known of one label and one kind of change.

    Attributes:
        label: the label.
        transform: the kind of change.
        score: mean margin of the label on changed held-out images, over the usual margin of an answer.
        p_value: corrected for all labels and kinds of change, 0 to 1.
        index: robust standard deviations above the usual score, 0 or more.
        success: share of held-out images of other labels that arrive, 0 to 1.
        size: of the change, in the transform's unit.
        trigger: the change.

    """

    label: int
    transform: Transform
    score: float
    p_value: float
    index: float
    success: float
    size: float
    trigger: Trigger

    @property
    def what(self) -> str:
        """What the label answers, in words."""
        return self.transform.what

    def finding(self) -> Finding:
        """Return what it says of a label that is flagged."""
        return finding(
            self.label,
            index=self.index,
            chance=self.p_value,
            size=self.size,
            unit=self.transform.unit,
            success=self.success,
            flagged=True,
            trigger=self.trigger,
        )

    def facts(self) -> dict[str, Any]:
        """Return the figures, for a report."""
        return {
            "label": self.label,
            "transform": self.transform.name,
            "score": self.score,
            "p_value": self.p_value,
            "attack_success": self.success,
            "size": self.size,
        }


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """What the look at all labels says.

    Attributes:
        evidence: the strongest first.
        passes: forward+backward passes of one sample.
        complete: whether nothing was cut short.

    """

    evidence: tuple[Transformed, ...]
    passes: int
    complete: bool

    def flagged(self, significance: float, confirm: float) -> list[Transformed]:
        """Return for each flagged label its strongest evidence."""
        best: dict[int, Transformed] = {}
        for entry in self.evidence:
            if entry.p_value < significance and entry.success >= confirm:
                best.setdefault(entry.label, entry)
        return list(best.values())

    def placed(self, middle: Middle, whole: Prepared) -> Transforms:
        """Return the same with triggers for whole images, where the parts of large ones were changed."""
        return replace(self, evidence=tuple(_placed(entry, middle, whole) for entry in self.evidence))


def look_at_transforms(
    model: Classifier,
    ready: Prepared,
    labels: Sequence[int],
    *,
    significance: float,
    confirm: float,
    run: Run,
    stop: Callable[[], bool] = lambda: False,
    kinds: Sequence[str] = tuple(TRANSFORMS),
) -> Transforms:
    """Pull the images to each label by a change of each kind, as far as its reach allows.

    Without a backdoor no faint warp and no small filter pulls all images to one label much further than to
    the others. How far it pulls is the label's margin on held-out images; margins are compared between labels
    by a moderated t-test, corrected for all labels and kinds. A label that the network answers often is
    reached more easily by nature, so its margin is allowed to be higher.

    Args:
        model: the network.
        ready: images, and what stands in for their truth.
        labels: to compare with each other.
        significance: p-value below which a change that fails on held-out images may go further.
        confirm: share of held-out images on which a change does not fail.
        run: device, seed, progress.
        stop: where it says yes, the look ends.
        kinds: names of the transforms.

    """
    evidence: list[Transformed] = []
    passes, complete = 0, True
    for name in kinds:
        transform = TRANSFORMS[name]
        how = Pull(transform=transform, steps=POLICY.transform_steps, batch_size=POLICY.transform_batch)
        pulled = pull(how, model, *ready.search, labels, run=run, stop=stop)
        passes += pulled.passes
        if not pulled.triggers:
            complete = False
            break
        weighed = _weighed(model, ready, labels, transform, pulled.triggers, len(kinds))
        weak = [entry for entry in weighed if entry.p_value < significance and entry.success < confirm]
        if weak:
            further = pull(
                replace(how, times=FURTHER),
                model,
                *ready.search,
                [entry.label for entry in weak],
                run=run,
                stop=stop,
            )
            passes, complete = passes + further.passes, complete and bool(further.triggers)
            pairs = zip(weak, further.triggers, strict=False)
            stronger = {entry.label: _stronger(model, ready, entry, trigger) for entry, trigger in pairs}
            weighed = [stronger.get(entry.label, entry) for entry in weighed]
        evidence += weighed
    evidence.sort(key=lambda entry: entry.p_value)
    return Transforms(evidence=tuple(evidence), passes=passes, complete=complete)


def _weighed(
    model: Classifier,
    ready: Prepared,
    labels: Sequence[int],
    transform: Transform,
    triggers: Sequence[Trigger],
    kinds: int,
) -> list[Transformed]:
    """Return what the changes of one kind say of each label."""
    images, truth = (part[:JUDGED] for part in ready.held_out)
    usual = _margins(model.all_logits(images), truth).clamp(min=0).mean().clamp(min=1e-6)
    scores, successes = [], []
    for label, trigger in zip(labels, triggers, strict=True):
        victims = images[truth != label]
        margins = _margins(model.all_logits(trigger.stamp(victims)), torch.full((len(victims),), label))
        scores.append(float((margins / usual).clamp(LEAST, MOST).mean()))
        successes.append(float((margins > 0).float().mean()))
    values = torch.tensor(scores)
    often = torch.bincount(ready.answers, minlength=model.num_classes)[list(labels)].double() + 1
    favour = POLICY.transform_favour * (often / often.median()).log().clamp(min=0)
    chances = high_p_values(values, POLICY.transform_spread, favour)
    middle = median(values)
    scale = MAD_TO_SIGMA * median((values - middle).abs())
    return [
        Transformed(
            label=label,
            transform=transform,
            score=score,
            p_value=min(1.0, kinds * len(labels) * float(chance)),
            index=max(0.0, (score - middle) / max(scale, POLICY.transform_spread / 10)),
            success=success,
            size=transform.size(trigger, images),
            trigger=trigger,
        )
        for label, score, success, chance, trigger in zip(
            labels, scores, successes, chances, triggers, strict=True
        )
    ]


def _stronger(model: Classifier, ready: Prepared, entry: Transformed, trigger: Trigger) -> Transformed:
    """Return the evidence with a trigger that goes further; what was tested stays as it was."""
    images, truth = (part[:JUDGED] for part in ready.held_out)
    success = attack_success(model, trigger, images, truth, entry.label)
    return replace(entry, trigger=trigger, success=success, size=entry.transform.size(trigger, images))


def _placed(entry: Transformed, middle: Middle, whole: Prepared) -> Transformed:
    """Return the evidence with its trigger for whole images, and how often it works on them."""
    images, truth = (part[:MEASURING] for part in whole.held_out)
    trigger = middle.lifted(entry.trigger)
    success = attack_success(middle.whole, trigger, images, truth, entry.label)
    return replace(entry, trigger=trigger, success=success)


def _margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return by how much each image's label is ahead of all others (N,)."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.max(1).values
