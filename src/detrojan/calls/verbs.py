"""The tasks as calls: scan a model, repair it, put a guard in front of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from detrojan.calls.given import Feeding, ModelLike, classifier, feeding_source
from detrojan.calls.images import ImagesLike, taken
from detrojan.calls.results import RepairOutcome, ScanOutcome
from detrojan.calls.speaking import as_a_call
from detrojan.errors import DataError, OptionError
from detrojan.findings import Finding
from detrojan.guards.base import Calibrated, Guard
from detrojan.jobs.feeding import Check, settle
from detrojan.jobs.findings import Given
from detrojan.jobs.inputs import Inputs, check_shape
from detrojan.jobs.labelling import with_names, with_usable_labels
from detrojan.jobs.passing import calibrated
from detrojan.jobs.repair_job import Job, check_blind, check_held_out, ended
from detrojan.jobs.scanning import scan_model, scan_named, usual_scan
from detrojan.jobs.settings import method_named, methods_named
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repair
from detrojan.report.pictures import pictures_of
from detrojan.run import Run
from detrojan.scans.base import Scan

#: share of the images that a repair uses; the others measure it
USE = 0.5


@as_a_call
def scan(
    model: ModelLike,
    images: ImagesLike,
    labels: Any = None,
    *,
    method: str | Scan | None = None,
    targets: Sequence[int] | None = None,
    samples: int | None = None,
    budget: float | None = None,
    run: Run | None = None,
    **feeding: Unpack[Feeding],
) -> ScanOutcome:
    """Judge a model: does it have a backdoor, and to which label does it lead?

    Args:
        model: a file or folder, an `nn.Module` that answers logits, a `Classifier`, any callable that
            answers scores, or with `url` the name of a model at a server.
        images: a few hundred clean ones like those it is used for: a file or folder, arrays in [0, 1] or
            0..255, a list of pictures, a `Dataset`, or a data set or loader of PyTorch's or Hugging Face's;
            `dataset` has them all.
        labels: (N,) of the images, where they are known and do not come with them.
        method: a scan's name, or a scan with its settings, such as `NeuralCleanse(steps=500)`. None is the
            cascade, or "peaks" for a model that only answers.
        targets: labels to test as targets; None for all.
        samples: how many images are used; None for as many as the method takes.
        budget: seconds after which the cascade says what it knows by then; None for no limit.
        run: seed, device, progress and checkpoint; `Run()` by default.
        feeding: how the model is built and fed, where its file does not say: see `Feeding`.

    Returns:
        The verdict, the findings with their triggers, and the report. Notebooks show it as a page.

    Raises:
        ModelError: the model cannot be read, or does not run on such images.
        DataError: the images cannot be read, or are too few.
        OptionError: options that do not go together.

    """
    run, started = run or Run(), datetime.now(UTC)
    if budget is not None and not budget > 0:
        raise OptionError(f"expected a budget above 0 seconds, got {budget:g}")
    if isinstance(method, Scan) and budget is not None:
        raise OptionError(f"expected the budget as a setting of {type(method).__name__}, got both")
    if method is None:
        method = usual_scan(answers_only=_only_answers(model, feeding))
    chosen = method if isinstance(method, Scan) else scan_named(method, samples=samples, budget=budget)
    inputs = _inputs(model, images, labels, chosen.samples if samples is None else samples, run, feeding)
    scanned = scan_model(
        inputs, chosen, run=run, labels=None if targets is None else sorted(set(targets)), started=started
    )
    if scanned.interrupted:
        raise KeyboardInterrupt
    pictures = pictures_of(scanned.result.flagged, inputs.data.images, model=inputs.model)
    return ScanOutcome(report=scanned.report, result=scanned.result, pictures=pictures)


def _only_answers(model: ModelLike, feeding: Feeding) -> bool:
    if isinstance(model, Classifier):
        return model.answers_only
    return feeding.get("url") is not None or not isinstance(model, str | Path | nn.Module)


@as_a_call
def repair(
    model: ModelLike,
    images: ImagesLike,
    labels: Any = None,
    *,
    findings: ScanOutcome | Sequence[Finding] | None = None,
    method: str | Repair | Sequence[Repair] = "adversarial",
    use: float = USE,
    verify: bool = True,
    samples: int | None = None,
    run: Run | None = None,
    **feeding: Unpack[Feeding],
) -> RepairOutcome:
    """Repair a copy of a model, measure it on images that the repair has not seen, and scan it again.

    Args:
        model: as for `scan`; it is left as it is.
        images: clean ones, as for `scan`.
        labels: (N,) of the images, where they are known and do not come with them.
        findings: what `scan` gave back, or findings; None scans first. An empty list repairs without any, by
            methods that need no trigger.
        method: repairs by name, "prune,finetune", or one or more with their settings.
        use: share of the images to repair with, in (0, 1).
        verify: whether the copy is scanned again.
        samples: how many images are used; None for all.
        run: seed, device, progress and checkpoint.
        feeding: how the model is built and fed, where its file does not say: see `Feeding`.

    Returns:
        The repaired copy as `model`, the outcome and the report.

    Raises:
        ModelError: the model cannot be read.
        DataError: images that cannot be read or are too few, or a scan that found nothing to repair.
        OptionError: options that do not go together.

    """
    if not 0 < use < 1:
        raise OptionError(f"expected use in (0, 1), got {use:g}")
    run, started, begun = run or Run(), datetime.now(UTC), time.monotonic()
    methods = _repairs(method)
    inputs = _inputs(model, images, labels, samples, run, feeding)
    if verify:
        check_held_out(len(inputs.data), use)
    job = Job(
        inputs=inputs, run=run, scan=scan_named("cascade"), methods=methods, started=started, begun=begun
    )
    given = _given(job, findings)
    mended = job.mend(given, use)
    tested = [entry.label for entry in given.findings] or [*range(inputs.model.num_classes)]
    again = job.scan_again(mended, tested) if verify else None
    outcome, complaint = ended(mended, again)
    return RepairOutcome(
        report=job.repair_report(mended, given, again, out=None, json_file=None),
        pictures=pictures_of(given.findings, inputs.data.images, model=inputs.model),
        mended=mended,
        outcome=outcome,
        complaint=complaint,
    )


def _given(job: Job, findings: ScanOutcome | Sequence[Finding] | None) -> Given:
    """Return what a repair is made from; a scan comes first where nothing was found yet.

    Raises:
        DataError: a scan that flagged no label.
        OptionError: no findings at all, and a method that needs them.

    """
    if findings is not None and not isinstance(findings, ScanOutcome):
        if not findings:
            check_blind(job.methods)
        return Given(findings=tuple(findings), blind=not findings)
    given = job.scan_first(None) if findings is None else Given(findings=findings.result.flagged)
    if given.interrupted:
        raise KeyboardInterrupt
    if not given.findings:
        raise DataError(
            "expected a backdoor to repair; the scan flagged no label (findings=[] repairs nevertheless, "
            'by a method that needs no trigger such as "fine_pruning")'
        )
    return given


@as_a_call
def guard(
    model: ModelLike,
    images: ImagesLike,
    *,
    frr: float = 0.01,
    method: str | Guard = "auto",
    findings: ScanOutcome | Sequence[Finding] | None = None,
    samples: int | None = None,
    run: Run | None = None,
    **feeding: Unpack[Feeding],
) -> Calibrated:
    """Put a guard in front of a model, its boundary set on clean images.

    Args:
        model: as for `scan`.
        images: clean ones, as for `scan`; their labels are not used.
        frr: share of clean inputs that may be refused, in (0, 1); only where `method` is a name.
        method: a guard's name, or a guard with its settings, such as `Strip(copies=50)`. "auto" asks several
            guards, and takes those that suit the model.
        findings: what `scan` gave back, or findings with their triggers; they sharpen "auto".
        samples: how many images are used; None for all.
        run: seed, device and progress.
        feeding: how the model is built and fed, where its file does not say: see `Feeding`.

    Returns:
        The guard: `refuses(images)` judges inputs, `save_guard` writes it to a folder.

    Raises:
        ModelError: the model cannot be read.
        DataError: images that cannot be read or are too few.
        OptionError: options that do not go together.

    """
    run = run or Run()
    if isinstance(method, str):
        named = method_named("guards", method, (f"frr={frr!r}",))
        assert isinstance(named, Guard)
        method = named
    inputs = _inputs(model, images, None, samples, run, feeding, check="refuse")
    known = findings.result.flagged if isinstance(findings, ScanOutcome) else findings
    given = None if known is None else Given(findings=tuple(known))
    made = calibrated(method, inputs.model, inputs.data, given, run=run)
    return replace(made, warnings=(*inputs.warnings, *made.warnings))


def _inputs(
    model: ModelLike,
    images: ImagesLike,
    labels: Any,
    samples: int | None,
    run: Run,
    feeding: Feeding,
    *,
    check: Check = "later",
) -> Inputs:
    """Return the model and its data, made sure to fit each other."""
    make = taken(images, labels, samples, run)
    if isinstance(model, Classifier | str | Path) or "input_shape" in feeding:
        network = classifier(model, feeding, device=run.device)
    else:  # a module takes what the images are, unless the caller says more
        make = make.settled()
        network = classifier(model, feeding, shape=make.known, device=run.device)
    data = make(None, network)
    check_shape(network, data)
    data, warnings = with_usable_labels(network, data)
    network, fed = settle(network, data, feeding_source(feeding), check=check)
    if isinstance(model, Classifier) and not network.class_names:
        network = network.with_preprocessing(network.preprocessing)  # the caller's own keeps its names
    data, told = with_names(network, data)
    return Inputs(model=network, data=data, warnings=(*network.origin.notes, *fed, *warnings, *told))


def _repairs(method: str | Repair | Sequence[Repair]) -> list[Repair]:
    if isinstance(method, str):
        return [one for one in methods_named("repairs", method.split(","), ()) if isinstance(one, Repair)]
    return [method] if isinstance(method, Repair) else list(method)
