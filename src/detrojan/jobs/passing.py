"""How many images with the triggers of a scan get past a guard."""

from __future__ import annotations

from pathlib import Path

from detrojan.data.dataset import Dataset
from detrojan.guards.base import Calibrated
from detrojan.jobs.findings import read_findings
from detrojan.report.records.guard import FoundTrigger
from detrojan.triggers.aim import Aim


def passing(
    guard: Calibrated, data: Dataset, file: Path | None
) -> tuple[list[FoundTrigger] | None, list[str]]:
    """Return how many images pass with each trigger that a scan has found, and what the reader must know.

    Args:
        guard: calibrated.
        data: clean images; those that the network answers with a trigger's label are not stamped.
        file: the scan's JSON; None for no triggers.

    Raises:
        DataError: no scan's JSON, no trigger saved, or one that does not fit the model.
        LabelError: a label beyond the model's classes.

    """
    if file is None:
        return None, []
    given = read_findings(file, guard.model, None)
    answers = guard.model.answers(data.images)
    found = []
    for finding in given.findings:
        chosen = data.images[Aim(target=finding.label).moved(answers)]
        if finding.trigger is None or not len(chosen):
            continue
        refused = guard.refuses(finding.trigger.stamp(chosen))
        passed = int((~refused).sum())
        found.append(FoundTrigger(label=finding.label, stamped=len(chosen), passed=passed))
    return found, list(given.warnings)
