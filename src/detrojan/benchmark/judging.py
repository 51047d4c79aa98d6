"""Judges networks on images that no training and no defence has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.benchmark.making import Subject
from detrojan.benchmark.materials import Material
from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.metrics.accuracy import agreement
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import remove_units
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.input_aware import InputAwareTrigger
from detrojan.triggers.sample_specific import SampleSpecificTrigger

Values = dict[str, Any]
#: triggers that mean something on the one image that they were drawn for only
SAMPLE_SPECIFIC = (InputAwareTrigger, SampleSpecificTrigger)

#: a curve has many points: at each of them no more clean images than these are judged
MOST_ALONG = 2000


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures networks on the judging images, always in the same way.

    Attributes:
        test: those images.
        truth: their labels, or the delivered network's answers where the labels mean nothing (N,).
        answers: the subject's answers (N,).
        backdoors: what was planted.
        classes: number of classes.

    """

    test: Dataset
    truth: torch.Tensor
    answers: torch.Tensor
    backdoors: tuple[Backdoor, ...]
    classes: int

    @classmethod
    def of(cls, subject: Subject, material: Material) -> Judge:
        """Return the judge of a subject and of its repaired copies.

        Raises:
            LabelError: labels beyond the subject's classes.

        """
        labels, classes = material.test.labels, subject.model.num_classes
        if labels is not None and int(labels.max()) >= classes:
            raise LabelError(
                f"expected labels of 0 to {classes - 1} to judge by, got up to {int(labels.max())}"
            )
        answers = subject.model.answers(material.test.images)
        truth = answers if material.test.labels is None else material.test.labels
        return cls(
            test=material.test,
            truth=truth,
            answers=answers,
            backdoors=subject.backdoors,
            classes=subject.model.num_classes,
        )

    def success(self, model: Classifier) -> list[float]:
        """Return how often each backdoor works, 0 to 1."""
        return [one.success(model, self.test.images, self.truth) for one in self.backdoors]

    def crossed(self, model: Classifier) -> float | None:
        """Return how often sample-specific triggers work on other images than their own, 0 to 1.

        Each victim gets the trigger that was drawn for another victim; the pairs are the same in
        every call. None where no trigger is sample-specific.
        """
        found = []
        for backdoor in self.backdoors:
            trigger = backdoor.trigger
            if not isinstance(trigger, SAMPLE_SPECIFIC):
                continue
            places = backdoor.aim.moved(self.truth)
            # a circle of all victims in random order: nobody is his own giver
            order = torch.randperm(len(places), generator=torch.Generator().manual_seed(len(places)))
            mine, givers = places[order], places[order.roll(1)]
            truth = self.truth[mine]
            answers = model.answers(trigger.stamp_from(self.test.images[mine], self.test.images[givers]))
            found.append(float(backdoor.aim.won(answers, truth, self.classes).double().mean()))
        return sum(found) / len(found) if found else None

    def stamped(self, most: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return stamped images, evenly of all backdoors, and the labels asked for.

        There are no such labels where any wrong answer will do.
        """
        images, goals = [], []
        for backdoor in self.backdoors:
            places = backdoor.aim.moved(self.truth)
            drawn = places[torch.randperm(len(places), generator=generator)[: most // len(self.backdoors)]]
            images.append(backdoor.trigger.stamp(self.test.images[drawn]))
            if not backdoor.aim.untargeted:
                goals.append(backdoor.aim.goals(self.truth[drawn], self.classes))
        return torch.cat(images), torch.cat(goals) if len(goals) == len(images) else None

    def measure(self, model: Classifier) -> Values:
        """Return clean accuracy (where labels mean something), agreement, and attack success.

        Where triggers are sample-specific, `cross_asr` is the success of another image's trigger.
        """
        success, crossed = self.success(model), self.crossed(model)
        answers, labels = model.answers(self.test.images), self.test.labels
        figures = {
            "ca": None if labels is None else _share(answers == labels),
            "agreement": _share(answers == self.answers),
            "asr": sum(success) / len(success) if success else None,
            "asr_each": success,
        }
        return figures if crossed is None else {**figures, "cross_asr": crossed}

    def along(
        self, model: Classifier, layer: str, order: torch.Tensor, points: Sequence[int]
    ) -> dict[str, list[float]]:
        """Return clean accuracy (agreement, where labels mean nothing) and attack success along a pruning.

        Clean accuracy is measured on at most `MOST_ALONG` images, drawn in the same way in every call.

        Args:
            model: the network as it was delivered; unchanged.
            layer: whose units go.
            order: its units, the first to go first (U,).
            points: how many are gone when it is measured, ascending, P of them.

        Returns:
            P values each of "units pruned", "clean accuracy" and, where a backdoor was planted,
            "attack success".

        """
        drawn = torch.randperm(len(self.test), generator=torch.Generator().manual_seed(0))[:MOST_ALONG]
        images, truth = self.test.images[drawn], self.truth[drawn]
        trial, gone = model.copy(), 0
        curve: dict[str, list[float]] = {"units pruned": [], "clean accuracy": []}
        if self.backdoors:
            curve["attack success"] = []
        for count in points:
            remove_units(trial, layer, order[gone:count])
            gone = count
            curve["units pruned"].append(float(count))
            curve["clean accuracy"].append(agreement(trial, truth, images))
            if self.backdoors:
                success = self.success(trial)
                curve["attack success"].append(sum(success) / len(success))
        return curve


def _share(hits: torch.Tensor) -> float:
    return float(hits.float().mean())
