"""What a cell measures: the network as it is, and each room's defences on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from detrojan.attacks.badnets import BadNets
from detrojan.benchmark.judging import Judge, Values
from detrojan.benchmark.making import Subject
from detrojan.benchmark.materials import Material
from detrojan.benchmark.parts import NONE
from detrojan.filters.base import Filter
from detrojan.findings import Finding, RepairStep, ScanResult
from detrojan.guards.base import Guard
from detrojan.method import Method
from detrojan.metrics.detection import auroc, detection, false_acceptance_rate
from detrojan.models.classifier import Classifier
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.base import Repair
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.trainers.base import Trainer
from detrojan.triggers.backdoor import Backdoor

#: curves and lists with more points than this are not kept in a row
_MOST_POINTS = 400
#: share of the training images stamped with the triggers of an attacker who trains the network himself
_STAMPED = 0.1


class NotApplicableError(Exception):
    """A defence that makes no sense for this subject; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a defence yields.

    Attributes:
        figures: numbers that tables show, shares 0 to 1, by name.
        details: what else is kept, plain values.

    """

    figures: Values
    details: Values


def measure(
    method: Method,
    subject: Subject,
    material: Material,
    *,
    knows: str,
    own: str,
    scanned: Callable[[str], ScanResult],
    start: Callable[[], Classifier],
    inputs: int,
    run: Run,
) -> Measured:
    """Try a defence on a subject; a `NotApplicableError` says that it makes no sense there.

    Args:
        method: the defence.
        subject: what it is tried on.
        material: the data.
        knows: what a repair knows: "none", "original", or a scan's name.
        own: the defence's name in the plan.
        scanned: returns the result of the scan of that name on this subject.
        start: returns the network before its training.
        inputs: most clean and most stamped inputs that a guard judges.
        run: device, seed, progress, checkpoint.

    Raises:
        DetrojanError: it fails.

    """
    judge = Judge.of(subject, material)
    match method:
        case Repair():
            return _repair(method, subject, material, judge, knows=knows, scanned=scanned, run=run)
        case Scan():
            return _scan(scanned(own), subject)
        case Guard():
            return _guard(method, subject, material, judge, inputs=inputs, run=run)
        case Trainer():
            return _trainer(method, subject, material, judge, start=start(), run=run)
        case Filter():
            return _filter(method, subject, run=run)
    raise NotApplicableError(f"the bench knows no way to try {type(method).__name__}")


def _repair(
    method: Repair,
    subject: Subject,
    material: Material,
    judge: Judge,
    *,
    knows: str,
    scanned: Callable[[str], ScanResult],
    run: Run,
) -> Measured:
    findings: Sequence[Finding] = ()
    if knows == "original":
        findings = original(subject.backdoors)
        if "original" in type(method).__dataclass_fields__:
            pairs = tuple((finding.label, finding.trigger) for finding in findings)
            method, findings = replace(method, original=pairs), ()  # type: ignore[call-arg]
    elif knows != NONE:
        findings = scanned(knows).flagged
        if not findings:
            raise NotApplicableError(f"the scan {knows} flagged nothing, so nothing was repaired")
    repaired = method.repair(subject.model, material.clean, findings, run=run)
    figures = judge.measure(repaired.model)
    changed = repaired.model.answers(material.test.images) != judge.answers
    figures["n_plus_one_false_alarms"] = float(changed.float().mean())
    if subject.backdoors:
        images, _ = judge.stamped(len(material.test), run.generator("caught"))
        differs = repaired.model.answers(images) != subject.model.answers(images)
        figures["n_plus_one_caught"] = float(differs.float().mean())
    details: Values = {"steps": _steps(repaired.steps)}
    if isinstance(method, ActivationPruning):
        details["judged"] = _judged(repaired.steps[0], subject.model, judge)
    return Measured(figures=figures, details=details)


def _judged(step: RepairStep, model: Classifier, judge: Judge) -> Values:
    """Return a pruning's whole curve on the judging images, and where it stopped."""
    curve = judge.along(
        model,
        step.details["layer"],
        torch.tensor(step.details["order"]),
        [round(count) for count in step.curves["units pruned"]],
    )
    return {"layer": step.details["layer"], "chosen": step.details["chosen"], "curve": curve}


def original(backdoors: tuple[Backdoor, ...]) -> tuple[Finding, ...]:
    """Return the attacker's triggers as findings; a `NotApplicableError` where none has a target."""
    if not backdoors or any(backdoor.aim.target is None for backdoor in backdoors):
        raise NotApplicableError("there is no backdoor with a target of its own to tell the repair about")
    return tuple(
        Finding(
            label=backdoor.aim.target or 0,
            aim=backdoor.aim,
            anomaly_index=0.0,
            attack_success=1.0,
            flagged=True,
            trigger=backdoor.trigger,
        )
        for backdoor in backdoors
    )


def _scan(result: ScanResult, subject: Subject) -> Measured:
    classes = subject.model.num_classes
    truth = {label for backdoor in subject.backdoors for label in backdoor.aim.targets(classes)}
    found = set(result.targets)
    figures: Values = {
        "flagged": float(result.verdict == "backdoored"),
        "false_targets": float(len(found - truth)),
        "passes": float(result.passes),
    }
    if subject.backdoors:
        figures["found"] = float(result.verdict == "backdoored")
        if truth:
            figures["target_right"] = float(truth <= found)
    return Measured(
        figures=figures,
        details={
            "verdict": result.verdict,
            "reason": result.reason,
            "targets": result.targets,
            "true_targets": sorted(truth),
            "warnings": list(result.warnings),
            "findings": [
                {
                    "label": one.label,
                    "anomaly_index": one.anomaly_index,
                    "size": one.size,
                    "unit": one.unit.name if one.unit else None,
                    "attack_success": one.attack_success,
                    "flagged": one.flagged,
                    "p_value": one.p_value,
                }
                for one in result.findings[:_MOST_POINTS]
            ],
        },
    )


def _guard(
    method: Guard, subject: Subject, material: Material, judge: Judge, *, inputs: int, run: Run
) -> Measured:
    guard = method.calibrate(subject.model, material.clean, run=run)
    order = torch.randperm(len(material.test), generator=run.generator("guard", "clean"))[:inputs]
    clean = material.test.images[order]
    clean_scores = guard.score(clean)
    let = ~guard.suspicious(clean_scores)
    figures: Values = {"frr": float((~let).double().mean()), "clean_inputs": len(clean)}
    if material.test.labels is not None:
        right = subject.model.answers(clean) == judge.truth[order]
        figures["ca"] = float((right & let).double().mean())
    details: Values = {"warnings": list(guard.warnings), "threshold": guard.threshold}
    details["clean"] = _quantiles(clean_scores)
    if subject.backdoors:
        images, goals = judge.stamped(inputs, run.generator("guard", "stamped"))
        scores = guard.score(images)
        told = detection(clean_scores, scores, guard.threshold)
        passed = ~guard.suspicious(scores)
        figures |= {"far": told.far, "auroc": told.auroc, "stamped_inputs": told.bad}
        for rate in (0.01, 0.05):  # the boundary moved to where these clean inputs have exactly this FRR
            figures[f"far_at_{rate}"] = false_acceptance_rate(scores, _quantile(clean_scores, 1 - rate))
        if goals is not None:
            figures["asr"] = float(((subject.model.answers(images) == goals) & passed).double().mean())
        details["stamped"] = _quantiles(scores)
    return Measured(figures=figures, details=details)


def _quantile(scores: torch.Tensor, share: float) -> float:
    """Return what a share of the scores (N,) lies at or below; the least number above it."""
    limit = scores.double().where(scores.isfinite(), torch.inf).quantile(share, interpolation="higher")
    return float(torch.nextafter(limit, limit.new_tensor(torch.inf)))


def _quantiles(scores: torch.Tensor) -> Values:
    points = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    return {f"{point:g}": float(scores.double().quantile(point)) for point in points}


def _trainer(
    method: Trainer, subject: Subject, material: Material, judge: Judge, *, start: Classifier, run: Run
) -> Measured:
    poisoned, details = subject.poisoned, Values()
    if subject.backdoors and poisoned is None:
        if subject.twin is None:
            raise NotApplicableError("nobody knows what data the delivered network was trained on")
        # the attacker trains the network himself; his finished triggers poison data as any others do
        attack = BadNets(poison_rate=_STAMPED, backdoors=subject.backdoors)
        poisoned = attack.poison(material.train, run=run)
        details["stamped"] = _STAMPED
    data = material.train if poisoned is None else poisoned.data
    bad = torch.empty(0, dtype=torch.int64) if poisoned is None else poisoned.indices
    trained = method.train(start, data, run=run, poisoned=bad if len(bad) else None)
    figures = judge.measure(trained.model)
    if len(trained.isolated):
        figures["isolated"] = len(trained.isolated)
        if len(bad):
            hit = torch.isin(trained.isolated, bad)
            figures["isolation_precision"] = float(hit.double().mean())
            figures["isolation_recall"] = float(hit.sum()) / len(bad)
    return Measured(figures=figures, details={**details, "steps": _steps(trained.steps)})


def _filter(method: Filter, subject: Subject, *, run: Run) -> Measured:
    if subject.poisoned is None:
        raise NotApplicableError("there are no poisoned data to filter")
    suspects = method.suspect(subject.poisoned.data, model=subject.model, run=run)
    bad = torch.zeros(len(subject.poisoned.data), dtype=torch.bool)
    bad[subject.poisoned.indices] = True
    flagged = suspects.flagged
    figures: Values = {
        "flagged_samples": int(flagged.sum()),
        "precision": float(bad[flagged].double().mean()) if bool(flagged.any()) else None,
        "recall": float(flagged[bad].double().mean()),
        "false_alarms": float(flagged[~bad].double().mean()),
        "auroc": auroc(suspects.scores[~bad], suspects.scores[bad]),
    }
    return Measured(figures=figures, details={"warnings": list(suspects.warnings)})


def _steps(steps: Sequence[RepairStep]) -> list[Values]:
    found = []
    for step in steps:
        record = asdict(step)
        record["curves"] = {name: series[:_MOST_POINTS] for name, series in step.curves.items()}
        record["details"] = {
            name: value
            for name, value in step.details.items()
            if not isinstance(value, list) or len(value) <= _MOST_POINTS
        }
        found.append(record)
    return found
