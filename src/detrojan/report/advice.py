"""What the owner of a judged model does next, and what the attack is called in lists of threats.

MITRE ATLAS (atlas.mitre.org) and the OWASP Machine Learning Security Top 10 (owasp.org) name the attack,
so that a report can be passed on to those who work with these lists.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TypeVar

from detrojan.report.commands import default_scan_command, guard_command, repair_command
from detrojan.report.schema import AdviceFacts, RepairReport, ScanReport, TaxonomyFacts
from detrojan.report.sentences import is_doubtful, is_failed
from detrojan.words import file_name, plural

TAXONOMY = [
    TaxonomyFacts(framework=framework, id=number, name=name)
    for framework, number, name in (
        ("MITRE ATLAS", "AML.T0018", "Manipulate AI Model"),
        ("MITRE ATLAS", "AML.T0018.000", "Poison AI Model"),
        ("MITRE ATLAS", "AML.T0020", "Poison Training Data"),
        ("OWASP ML Top 10", "ML10:2023", "Model Poisoning"),
        ("OWASP ML Top 10", "ML02:2023", "Data Poisoning Attack"),
    )
]
#: texts, each with the words of a command, or None
Steps = Iterator[tuple[str, list[str] | None]]
#: what an inconclusive scan lacked, by words of its reason or of its warnings, and what helps
_HELPS = (
    (
        ("input range is doubtful", "--input-range"),
        "State how the model wants its images: --input-range, --mean and --std of its training.",
    ),
    (
        ("the time was up",),
        "Give the scan more time (--budget), a GPU (--device cuda), or fewer labels (--labels).",
    ),
    (("somebody stopped", "interrupted"), "Let the scan run to its end."),
    (
        ("are of other classes", "images are of one class"),
        "Bring more images, of all classes; without --labels every class is tested.",
    ),
    (
        ("or more are needed to say what is usual", "or more to say what is usual"),
        "Test more labels: a label stands out beside others only.",
    ),
    (
        ("of others as the network does",),
        "Bring more images, of all classes: what shows what is usual learns from them.",
    ),
    (("made-up images",), "Scan with real images of the model's task."),
    (("too few triggers were found",), "Bring more images, or give the scan more time (--budget)."),
    (
        ("look closer at", "test it too"),
        "Scan the named labels again: with another --seed, with more images, or with another --method.",
    ),
)
_UNCLEAR = "Scan again with more images, more time (--budget), or another --method."


R = TypeVar("R", ScanReport, RepairReport)


def advised(report: R) -> R:
    """Return the report with what to do next, and the names of the attack."""
    return report.model_copy(update={"advice": advice(report), "taxonomy": TAXONOMY})


def advice(report: ScanReport | RepairReport) -> list[AdviceFacts]:
    """Return what to do next, the most urgent first."""
    if isinstance(report, RepairReport):
        steps = _after_repair(report)
    elif report.verdict == "backdoored":
        steps = _after_finding(report)
    else:
        steps = _after_silence(report) if report.verdict == "no evidence" else _after_doubt(report)
    return [
        AdviceFacts(text=text, command=shlex.join(command) if command else None) for text, command in steps
    ]


def advice_text(report: ScanReport | RepairReport) -> tuple[str, str]:
    """Return in one or two sentences what to do now, and the command that mends, or an empty text."""
    steps = advice(report)
    if not isinstance(report, ScanReport) or report.verdict == "no evidence":
        return steps[0].text, ""
    if report.verdict == "inconclusive":
        return " ".join(step.text for step in steps[:2]), ""
    helps = next(step for step in steps if step.command)
    return f"{steps[0].text} {helps.text}", helps.command or ""


def _after_finding(report: ScanReport) -> Steps:
    yield "Do not deploy this model. Where it runs already, take it out of service.", None
    yield "Quarantine the file as evidence. Its SHA-256 tells which copies are the same.", None
    if not report.findings:
        yield "Repair a copy by a method that needs no target:", repair_command(report, blind=True)
    elif all(entry.attack_success is None for entry in report.findings):
        yield "This method recovers no trigger. Scan with one that does:", default_scan_command(report)
    else:
        yield "Repair a copy, and use it only if it passes:", repair_command(report)
    yield (
        "Tell whoever delivered the model. Ask for its training data, and scan other models from there.",
        None,
    )


def _after_silence(report: ScanReport) -> Steps:
    tested = plural(len(report.labels_tested), "label")
    yield (
        f"The scan gives no reason to hold this file back: none of the {tested} tested stands out.",
        None,
    )
    yield (
        "This is not a proof. Backdoors of other kinds pass unseen: see “What this cannot say”.",
        None,
    )
    yield "The result holds for the file with this SHA-256 only. Scan every new version.", None
    yield "Where a wrong answer would do harm, set up a guard for its inputs as well:", guard_command(report)


def _after_doubt(report: ScanReport) -> Steps:
    yield "Do not take this for a pass. Treat the model as unchecked until a scan gives a verdict.", None
    said = " ".join([report.reason, *report.warnings])
    if report.details.get("interrupted"):
        said += " interrupted"
    found = [text for words, text in _HELPS if any(word in said for word in words)]
    for text in found or [_UNCLEAR]:
        yield text, None
    if report.model.classes < 5:
        yield "With so few classes, compare with a model of the same task that you trust.", None


def _after_repair(report: RepairReport) -> Steps:
    output = file_name(report.output or "") or "the repaired copy"
    if is_failed(report):
        yield "Do not deploy either file.", None
        yield "Try another repair (--method), with more clean images, or train again on data you trust.", None
    elif is_doubtful(report):
        yield "Do not deploy the repaired file before a scan has passed it.", None
        yield "Scan the repaired file, with more images or more labels than before.", None
    else:
        yield f"Deploy {output} only, never the delivered file.", None
        yield "Test it on images of your own before: a repair may cost some accuracy.", None
    yield "Keep the delivered file in quarantine as evidence.", None
