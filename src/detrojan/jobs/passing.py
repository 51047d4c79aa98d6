"""A guard that knows what a scan has found, and how many images with those triggers get past it."""

from __future__ import annotations

from detrojan.data.dataset import Dataset
from detrojan.guards.auto import Auto
from detrojan.guards.base import Calibrated, Guard
from detrojan.guards.likeness import taught
from detrojan.jobs.findings import Given
from detrojan.models.classifier import Classifier
from detrojan.report.records.guard import FoundTrigger
from detrojan.run import Run
from detrojan.triggers.aim import Aim


def calibrated(
    method: Guard, model: Classifier, clean: Dataset, given: Given | None, *, run: Run
) -> Calibrated:
    """Return the guard for a model; one that can make use of what was found is given that."""
    if given is None or not isinstance(method, Auto):
        return method.calibrate(model, clean, run=run)
    return method.calibrate(model, clean, run=run, findings=given.findings)


def passing(guard: Calibrated, data: Dataset, given: Given, *, run: Run) -> list[FoundTrigger]:
    """Return how many images pass with each trigger that a scan has found.

    They are stamped on the half of the images that no guard has learned from with a trigger.

    Args:
        guard: calibrated.
        data: clean images; those that the network answers with a trigger's label are not stamped.
        given: what was found; what has no trigger is passed over.
        run: as the guard was calibrated with.

    """
    data = data.select((~taught(len(data), run)).nonzero().flatten())
    answers = guard.model.answers(data.images)
    found = []
    for finding in given.findings:
        chosen = data.images[Aim(target=finding.label).moved(answers)]
        if finding.trigger is None or not len(chosen):
            continue
        refused = guard.refuses(finding.trigger.stamp(chosen))
        passed = int((~refused).sum())
        found.append(FoundTrigger(label=finding.label, stamped=len(chosen), passed=passed))
    return found
