"""The way from findings to a repaired model that has been judged again: what leads through several rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.findings import Finding, RepairStep, ScanResult
from detrojan.judging.outcome import shortcomings
from detrojan.judging.truth import meaningful
from detrojan.metrics.accuracy import agreement, clean_accuracy
from detrojan.metrics.leads import leads
from detrojan.models.blackbox import check_sees
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repair, Repaired
from detrojan.report.report import Measures, measures
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.scans.cascade import Cascade
from detrojan.scans.neural_cleanse import NeuralCleanse, quick

#: what a repair came to
Outcome = Literal["repaired", "not repaired", "not verified"]
#: labels that no scan has flagged, scanned again beside the flagged ones: an index needs company
CONTROLS = 10


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures a model, and its repaired copies, on the same images and against the same truth.

    Attributes:
        data: clean images that no repair has seen.
        truth: their labels, or the delivered model's answers instead (N,).
        answers: the delivered model's answers (N,).
        findings: whose triggers are stamped.

    """

    data: Dataset
    truth: torch.Tensor
    answers: torch.Tensor
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, model: Classifier, data: Dataset, findings: Sequence[Finding]) -> Judge:
        """Return a judge that compares with `model` as it was delivered."""
        answers = model.answers(data.images)
        truth = answers if data.labels is None else data.labels
        return cls(data=data, truth=truth, answers=answers, findings=tuple(findings))

    def measure(self, model: Classifier) -> Measures:
        """Return accuracy where there are labels, agreement, and how often each trigger works."""
        success: dict[int, float] = {}
        stamped: dict[int, int] = {}
        for lead in leads(self.findings):
            count = int(lead.aim.victims(self.truth).sum())
            if lead.aim.source is None or count:  # without images of its class nothing is known of a trigger
                labels = lead.aim.targets(model.num_classes)
                success |= dict.fromkeys(labels, lead.success(model, self.data.images, self.truth))
                stamped |= dict.fromkeys(labels, count)
        return measures(
            clean_accuracy=None if self.data.labels is None else clean_accuracy(model, self.data),
            agreement=agreement(model, self.answers, self.data.images),
            attack_success=success,
            stamped=stamped,
            counts={"images": len(self.data)},
        )


def with_usable_labels(model: Classifier, data: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Return the data, without labels that mean nothing to the model, and the input range's warnings."""
    meant, check = meaningful(model, data)
    return meant, check.warnings


def repair_in_sequence(
    model: Classifier, data: Dataset, findings: Sequence[Finding], methods: Sequence[Repair], *, run: Run
) -> Repaired:
    """Apply repairs one after the other, each to the copy that the one before has made.

    Args:
        model: the model as delivered; unchanged.
        data: clean images, labelled or not.
        findings: flagged findings, each with its trigger.
        methods: the repairs, in their order; at least one.
        run: device, seed, progress, checkpoint.

    Raises:
        OptionError: no method.

    """
    if not methods:
        raise OptionError("expected at least one repair")
    for method in methods:
        check_sees(method, model)
    current, steps = model, list[RepairStep]()
    with run.progress.task("repair", len(methods)) as task:
        for method in methods:
            repaired = method.repair(current, data, findings, run=run)
            current = repaired.model
            steps += repaired.steps
            task.advance(1, note=method.name)
    return Repaired(model=current, steps=tuple(steps))


def verify(
    model: Classifier,
    data: Dataset,
    targets: Sequence[int],
    *,
    scan: Scan,
    run: Run,
    controls: int = CONTROLS,
) -> ScanResult:
    """Scan a repaired model again: the labels that were flagged, and some others beside them.

    All labels are tested where the scan searches all of them anyway. Where the data do not do for a
    scan, the result is inconclusive and says why.

    Args:
        model: the repaired model.
        data: clean images.
        targets: labels that were flagged before the repair.
        scan: the method; Neural Cleanse is given a third of its budget.
        run: device, seed, progress, checkpoint.
        controls: how many other labels are scanned, drawn at random.

    """
    if isinstance(scan, Cascade) and model.num_classes <= scan.controls:
        controls = model.num_classes  # it searches so many labels for comparison, tested or not
    others = torch.tensor([label for label in range(model.num_classes) if label not in set(targets)])
    drawn = others[torch.randperm(len(others), generator=run.generator("verify", "controls"))[:controls]]
    shorter = quick(scan) if isinstance(scan, NeuralCleanse) else scan
    labels = sorted({*targets, *drawn.tolist()})
    try:
        return shorter.scan(model, data, run=run.within("verify"), labels=labels)
    except DataError as error:
        reason = f"the repaired model could not be scanned: {error}"
        return ScanResult(verdict="inconclusive", reason=reason, findings=(), passes=0)


def verification_facts(result: ScanResult) -> dict[str, Any]:
    """Return what a re-scan said, for a repair's report."""
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "targets": result.targets,
        "labels_tested": [finding.label for finding in result.findings],
        "passes": result.passes,
        "warnings": list(result.warnings),
    }


def repair_outcome(before: Measures, after: Measures, verification: ScanResult | None) -> Outcome:
    """Return what a repair came to.

    Args:
        before: how the delivered model answers.
        after: how the repaired model answers, on the same images.
        verification: what the re-scan said; None where none was asked for.

    Returns:
        "not repaired" if a recovered trigger works on 5% of the images or more, if the repair cost more than
        20 points of clean accuracy, or half of it, or if the re-scan finds a backdoor; "not verified" if no
        trigger was measured or the re-scan is inconclusive; else "repaired".

    """
    verdict = None if verification is None else verification.verdict
    if shortcomings(before, after, verdict):
        return "not repaired"
    return "not verified" if verdict == "inconclusive" or not after.per_target else "repaired"
