"""What was measured of one model: the record that repairs, evaluations and their reports share."""

from __future__ import annotations

from detrojan.records import Count, Label, Part, Share


class TargetSuccess(Part):
    """How often the recovered trigger for `label` works, on how many images of other classes."""

    label: Label
    attack_success: Share
    images: Count | None


class Measures(Part):
    """How a model answers: shares of 0 to 1, null where not measured.

    `agreement` is the share of images answered as the delivered model answered them: it stands in
    where nobody knows the labels. `attack_success` is the mean over `per_target`. A model of N + 1 classes
    calls inputs backdoored: `caught` is the share of stamped ones, `false_alarms` that of clean ones.
    """

    clean_accuracy: Share
    agreement: Share
    attack_success: Share
    caught: Share = None
    false_alarms: Share = None
    per_target: list[TargetSuccess]
    counts: dict[str, Count]
