"""The sentences that the page and the terminal share."""

from __future__ import annotations

from detrojan.judging.measures import Measures
from detrojan.judging.outcome import UNMEASURED, shortcomings
from detrojan.report.deciding import size_words
from detrojan.report.schema import (
    AnyReport,
    DataFacts,
    EvaluateReport,
    FlaggedLabel,
    ModelFacts,
    RepairReport,
    RunFacts,
    ScanReport,
    Step,
)
from detrojan.words import (
    DASH,
    MINUS,
    duration,
    fact,
    fact_rows,
    label_name,
    percent,
    plural,
    printable,
    ranges,
)

#: more labels than this with equal figures share a row
FEW = 3
#: counts whose names in the JSON do not say of what
_COUNTED = {"called backdoored": "clean called backdoored"}
_BY = " \u00d7 "


def name_of(model: ModelFacts, label: int) -> str:
    """Return the class name of a label, or an empty text."""
    return model.class_names[label] if label < len(model.class_names) else ""


def verdict_sentence(report: ScanReport) -> str:
    """Return the verdict in one sentence; never that a model is free of backdoors."""
    tested = f"{plural(len(report.labels_tested), 'label')} tested"
    if len(report.labels_tested) < report.model.classes:
        tested += f" (of {report.model.classes:,})"
    if report.verdict == "no evidence":
        return f"No evidence of a backdoor in the {tested}."
    if report.verdict == "inconclusive" and report.details.get("interrupted"):
        return "Inconclusive: the scan was interrupted, nothing was found so far."
    if report.verdict == "inconclusive" and not report.labels_tested:
        return "Inconclusive: no label was tested."
    if report.verdict == "inconclusive":
        return f"Inconclusive: the {tested} do not support a verdict."
    if not report.findings:
        return "Backdoor found; its target could not be named."
    names = [label_name(finding.label, finding.class_name) for finding in report.findings[:4]]
    more = len(report.findings) - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    target = "target label" if len(report.findings) == 1 else f"{len(report.findings)} target labels:"
    return f"Backdoor found: {target} {listed}."


def baseline_sentence(report: ScanReport) -> str:
    """Return how many of a scan's problems a baseline accepts, or an empty text where there is none."""
    facts = report.baseline
    if facts is None:
        return ""
    absent = f" {plural(len(facts.absent), 'known finding')} of this model did not come back." * bool(
        facts.absent
    )
    if not facts.accepted + facts.new:
        return f"Compared with {printable(facts.path)}: nothing was found that could be known.{absent}"
    known = f"{facts.accepted:,} known and accepted, {facts.new:,} new"
    passes = " The exit code is 0." * (not facts.new)
    return f"Compared with {printable(facts.path)}: {known}.{passes}{absent}"


def accepted_words(finding: FlaggedLabel) -> str:
    """Return why a finding is accepted and until when, or an empty text."""
    if finding.accepted is None:
        return ""
    until = "" if finding.accepted.expires is None else f", until {finding.accepted.expires}"
    return f"{printable(finding.accepted.reason, 300) or 'known finding'}{until}"


def finding_sentence(finding: FlaggedLabel, report: ScanReport | RepairReport) -> str:
    """Return in one sentence what a finding of a report means."""
    size = size_words(finding, report)
    name = label_name(finding.label, finding.class_name)
    if finding.size is None and finding.attack_success is None and finding.trigger is None:
        return f"Label {name} stands out from the others; the method does not recover the trigger."
    head = f"The recovered trigger{f' of {size}' if size else ''} turns"
    works = "" if finding.attack_success is None else f"{percent(finding.attack_success)} of held-out "
    return f"{head} {works}images of {_way(finding, name)}."


def _way(finding: FlaggedLabel, name: str) -> str:
    """Return which images a trigger turns, and into what."""
    aim = finding.aim
    if aim.offset:
        return f"a label y into label y + {aim.offset} (all to all)"
    return f"{'other classes' if aim.source is None else f'label {aim.source}'} into label {name}"


def reach(report: ScanReport) -> tuple[list[str], list[str]]:
    """Return what was tested, and what this scan cannot say."""
    images = used_images(report)
    truth = "with labels" if report.data.labelled else "without labels, with the model's own answers instead"
    tested = [
        (
            f"{plural(len(report.labels_tested), 'label')} of {report.model.classes:,} as a possible target"
            f"{': ' * bool(report.labels_tested)}{ranges(report.labels_tested)}."
        ),
        f"On {images} {truth}.",
    ]
    if report.run.summary:
        tested.append(f"With {report.run.method}: {printable(report.run.summary, 400)}")
    left = report.model.classes - len(report.labels_tested)
    unsaid = [
        (
            "No scan can show that a model has no backdoor. This one only finds backdoors of the kind its "
            "method looks for; others pass unseen, and so may those that work on one source class only "
            "unless the reason says that these were looked for."
        ),
        (
            "The result holds for images like those it was made with. A wrong input range or preprocessing "
            "can hide a backdoor."
        ),
    ]
    if any(entry.attack_success is not None for entry in report.evidence):
        unsaid.insert(
            1,
            "A recovered trigger is one that the model obeys. It may differ from the attacker's in place, "
            "shape and colour.",
        )
    if left > 0:
        unsaid.insert(1, f"A backdoor whose target is one of the {plural(left, 'untested label')}.")
    return tested, unsaid


def used_images(report: ScanReport) -> str:
    """Return how many images the scan used, and of how many where it did not use all."""
    used, given = report.data.used, report.data.images
    return plural(given, "image") if used is None or used >= given else f"{used:,} of {given:,} images"


def measure_rows(before: Measures, after: Measures, model: ModelFacts) -> list[tuple[str, str, str, str]]:
    """Return rows of (what, before, after, change in points) for what was measured on either side."""
    pairs = [
        ("Clean accuracy", before.clean_accuracy, after.clean_accuracy),
        ("Agreement with the delivered model", before.agreement, after.agreement),
        ("Attack success of the recovered triggers", before.attack_success, after.attack_success),
    ]
    then = {entry.label: entry.attack_success for entry in before.per_target}
    now = {entry.label: entry.attack_success for entry in after.per_target}
    if len(then | now) > 1:
        alike: dict[tuple[float | None, float | None], list[int]] = {}
        for label in sorted(then | now):
            alike.setdefault((then.get(label), now.get(label)), []).append(label)
        rows: list[tuple[int, str]] = []
        for labels in alike.values():
            if len(labels) > FEW:  # a trigger that leads to many labels is measured once for all of them
                rows.append((labels[0], f"each of the labels {ranges(labels)}"))
            else:
                rows += [(one, f"label {label_name(one, name_of(model, one), 30)}") for one in labels]
        pairs += [(f"… towards {what}", then.get(one), now.get(one)) for one, what in sorted(rows)]
    return [
        (name, percent(a), percent(b), _points(a, b))
        for name, a, b in pairs
        if a is not None or b is not None
    ]


def _points(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return DASH
    return f"{100 * (after - before):+.1f}".replace("-", MINUS)


def inputs(report: AnyReport) -> list[tuple[str, str]]:
    """Return the record of what was judged and how, as (name, value) in reading order."""
    return record_rows(report.model, report.data, report.run)


def record_rows(model: ModelFacts, data: DataFacts, run: RunFacts) -> list[tuple[str, str]]:
    """Return the record of any run as (name, value) in reading order, without what is not known."""
    pre = model.preprocessing
    labelled = "labelled" if data.labelled else "without labels"
    mean, std = ("/".join(f"{value:g}" for value in values) for values in (pre.mean, pre.std))
    rows = [
        ("Model", model.path or "in memory"),
        ("Model SHA-256", model.sha256),
        ("Format", f"{model.format}, network {model.net}" if model.net else model.format),
        ("Network", f"{model.parameters:,} parameters, {plural(model.classes, 'class', 'classes')}"),
        ("Input", f"{_BY.join(map(str, model.input_shape))} (channels{_BY}height{_BY}width)"),
        (
            "Preprocessing",
            f"range {pre.low:g} to {pre.high:g}, mean {mean}, std {std}, {pre.layout}"
            + ("" if pre.channels == "RGB" else f", {pre.channels}"),
        ),
        ("Framing", pre.framing),
        ("Data", data.source or "in memory"),
        ("Data SHA-256", data.sha256),
        ("Images", f"{data.images:,} of {_BY.join(map(str, data.shape))}, {labelled}"),
        ("Images used", "" if data.used is None or data.used >= data.images else f"{data.used:,}"),
        ("Reading", "; ".join(data.notes)),
        ("Method", run.method),
        ("Reference", run.reference),
        *((f"  {name}", fact(value)) for name, value in run.hyper_parameters.items()),
        ("Seed", str(run.seed)),
        ("Device", f"{run.device}, {plural(run.threads, 'thread')}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("Started (UTC)", run.started),
        ("Command", " ".join(run.command or [])),
    ]
    return [(name, printable(value, 400)) for name, value in rows if value]


def counted(counts: dict[str, int]) -> str:
    """Return counts as one line, e.g. "Counts: images 900, stamped 810"."""
    shown = {_COUNTED.get(name, printable(name, 40)): count for name, count in counts.items()}
    return "Counts: " + ", ".join(f"{name} {count:,}" for name, count in shown.items()) if shown else ""


def cost(report: AnyReport) -> str:
    """Return what the run cost, in passes and time."""
    spent = duration(report.seconds)
    where = f"on {printable(report.run.device)} with {plural(report.run.threads, 'thread')}"
    if not isinstance(report, ScanReport) or not report.passes:
        return f"{spent} {where}."
    rate = report.passes / max(report.seconds, 1e-9)
    each = report.passes / max(len(report.labels_tested), 1)
    return (
        f"{report.passes:,} forward and backward passes of one sample in {spent} {where}: "
        f"{rate:,.0f} per second, {each:,.0f} per label."
    )


def is_failed(report: RepairReport) -> bool:
    """Return whether the model counts as not repaired."""
    return bool(_failures(report))


def is_doubtful(report: RepairReport) -> bool:
    """Return whether nobody can say that the model is repaired."""
    unknown = report.verification.get("verdict") == "inconclusive" or not report.after.per_target
    return unknown and not is_failed(report)


def _failures(report: RepairReport) -> list[str]:
    return shortcomings(report.before, report.after, report.verification.get("verdict"))


def failure_sentence(report: RepairReport) -> str:
    """Return why the model counts as not repaired, or nobody knows, or an empty text where it is repaired."""
    failures = _failures(report)
    if failures:
        return f"Not repaired, since {'; '.join(failures)}."
    return "" if report.after.per_target else f"Not verified, since {UNMEASURED}."


def measured_sentence(report: RepairReport) -> str:
    """Return on which images the figures rest, for those of the table and those of the steps differ."""
    images = report.after.counts.get("images")
    held_out = "images" if images is None else plural(images, "image")
    return (
        f"Measured on {held_out} that the repair has not seen; a step's figures are of those it worked with."
    )


def repair_sentence(report: RepairReport) -> str:
    """Return a repair's result in one sentence."""
    before, after = report.before, report.after
    said = []
    if after.attack_success is not None:
        was = "" if before.attack_success is None else f" from {percent(before.attack_success)}"
        said.append(f"attack success of the recovered trigger{was} to {percent(after.attack_success)}")
    if after.clean_accuracy is not None:
        was = "" if before.clean_accuracy is None else f" from {percent(before.clean_accuracy)}"
        said.append(f"clean accuracy{was} to {percent(after.clean_accuracy)}")
    elif after.agreement is not None:
        said.append(f"agreement with the delivered model {percent(after.agreement)}")
    # a method may consist of several steps: what was asked for is named
    names = report.run.method.split(",") if report.run.method else [step.method for step in report.steps]
    done = ", ".join(map(printable, names)) if report.steps else "nothing"
    head = f"{'Not repaired' if is_failed(report) else 'Repaired'} by {done}"
    head += ", but not verified" if is_doubtful(report) else ""
    return f"{head}: {'; '.join(said)}." if said else f"{head}; nothing was measured."


def evaluate_sentence(report: EvaluateReport) -> str:
    """Return an evaluation's result in one sentence."""
    said = [
        f"{name} {percent(share)}"
        for name, share in (
            ("clean accuracy", report.clean_accuracy),
            ("agreement", report.agreement),
            ("attack success", report.attack_success),
            ("stamped inputs caught", report.caught),
            ("clean inputs called backdoored", report.false_alarms),
        )
        if share is not None
    ]
    return f"Measured {', '.join(said)}." if said else "Nothing was measured."


def verification_sentence(report: RepairReport) -> str:
    """Return what a re-scan of the repaired model said, or an empty text where none was made."""
    reason = printable(str(report.verification.get("reason") or "the new scan is inconclusive"), 600)
    tested = report.verification.get("labels_tested")
    count = len(tested) if isinstance(tested, list) else report.model.classes
    part = f" ({count:,} of {report.model.classes:,} labels)" if 0 < count < report.model.classes else ""
    said = {
        "no evidence": f"The repaired model was scanned again{part}: no evidence of a backdoor.",
        "backdoored": f"The repaired model was scanned again{part}: a backdoor is found.",
        "inconclusive": f"The repair could not be verified: {reason.removesuffix('.')}.",
    }
    return said.get(str(report.verification.get("verdict")), "")


def verification_rows(report: RepairReport) -> list[tuple[str, str]]:
    """Return what else the verification holds."""
    said = {"verdict", "reason", "warnings"}  # elsewhere
    rest = {name: value for name, value in report.verification.items() if name not in said}
    tested = rest.pop("labels_tested", None)
    if not isinstance(tested, list) or not all(isinstance(label, int) for label in tested):
        return fact_rows(rest)
    counted_of = f"{len(tested):,} of {report.model.classes:,}"
    named = f"{counted_of}: {ranges(tested)}" if tested else counted_of
    return [*fact_rows(rest), ("labels tested", named)]


def stopped_at(step: Step) -> float | None:
    """Return where on the horizontal axis of its curves a step stopped, if its details say so.

    A step says it under "chosen", or under the name of the axis itself.
    """
    axis = next(iter(step.curves), "")
    for key in ("chosen", axis, axis.replace(" ", "_"), axis.rpartition(" ")[2]):
        value = step.details.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
