"""Reports for the terminal: the verdict first, good at 80 columns.

Texts from outside are shown as plain characters: no markup, no escape sequences.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from detrojan.report.advice import advice_text
from detrojan.report.deciding import (
    decides_by_chance,
    no_larger,
    significance,
    threshold,
)
from detrojan.report.schema import AnyReport, EvaluateReport, RepairReport, ScanReport
from detrojan.report.sentences import (
    accepted_words,
    baseline_sentence,
    cost,
    counted,
    evaluate_sentence,
    failure_sentence,
    finding_sentence,
    is_doubtful,
    is_failed,
    measure_rows,
    measured_sentence,
    name_of,
    reach,
    repair_sentence,
    verdict_sentence,
    verification_rows,
    verification_sentence,
)
from detrojan.words import DASH, label_name, number, percent, printable, sentence

_STYLES = {"backdoored": "bold red", "no evidence": "bold blue", "inconclusive": "bold yellow"}


def report_text(report: AnyReport) -> RenderableType:
    """Return a report of any kind for the terminal."""
    if isinstance(report, ScanReport):
        return scan_text(report)
    return repair_text(report) if isinstance(report, RepairReport) else evaluate_text(report)


def scan_text(report: ScanReport) -> RenderableType:
    """Return a scan's verdict, warnings, findings, reach and cost."""
    tested, unsaid = reach(report)
    parts: list[RenderableType] = [
        Text(verdict_sentence(report), style=_STYLES[report.verdict]),
        Text(sentence(printable(report.reason, 600))),
        *([Text(known)] if (known := baseline_sentence(report)) else []),
        *_todo(report),
        *_warnings(report.warnings),
    ]
    if report.findings:
        parts += [Text(), _findings(report)]
        parts += [
            Text(said) for said in dict.fromkeys(finding_sentence(f, report) for f in report.findings[:4])
        ]
        parts += [
            Text(f"Label {f.label} is accepted: {accepted_words(f)}.") for f in report.findings if f.accepted
        ]
        parts += [
            Text(f"Trigger of label {f.label}: {printable(f.trigger)}", style="dim")
            for f in report.findings
            if f.trigger
        ]
    else:
        parts += [*_nearest(report)]
    parts += [Text(), Text("Tested"), *_items(tested)]
    parts += [Text(unsaid[0], style="dim"), Text(cost(report), style="dim")]
    return Group(*parts)


def repair_text(report: RepairReport) -> RenderableType:
    """Return what a repair did, the model before and after, the verification and the cost."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Measured", overflow="fold")
    for name in ("before", "after", "points"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in measure_rows(report.before, report.after, report.model):
        table.add_row(*(Text(cell) for cell in row))
    failure = failure_sentence(report)
    parts: list[RenderableType] = [
        Text(repair_sentence(report), style=_repair_style(report)),
        *([Text(failure, style="bold red" if is_failed(report) else "bold yellow")] if failure else []),
        *_todo(report),
        *_warnings(report.warnings),
    ]
    if table.row_count:
        parts += [Text(), table, Text(measured_sentence(report), style="dim"), Text()]
    for place, step in enumerate(report.steps, 1):
        parts.append(Text(f"{place}. {printable(step.method)}: {sentence(printable(step.summary, 600))}"))
    checked = verification_sentence(report)
    style = _STYLES.get(str(report.verification.get("verdict")), "")
    parts.append(Text(checked or "The repaired model was not scanned again.", style=style))
    parts += [Text(f"  {name}: {value}") for name, value in verification_rows(report)]
    if report.output:
        parts.append(Text(f"Written to {printable(report.output)}"))
    parts.append(Text(cost(report), style="dim"))
    return Group(*parts)


def evaluate_text(report: EvaluateReport) -> RenderableType:
    """Return what an evaluation measured, on how many images."""
    parts: list[RenderableType] = [Text(evaluate_sentence(report), style="bold"), *_warnings(report.warnings)]
    if len(report.per_target) > 1:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("Target label")
        table.add_column("attack success", justify="right")
        table.add_column("images", justify="right")
        for entry in report.per_target:
            name = label_name(entry.label, name_of(report.model, entry.label), 30)
            images = number(entry.images, 0)
            table.add_row(Text(name), Text(percent(entry.attack_success)), Text(images))
        parts += [Text(), table]
    parts += [Text(text) for text in [counted(report.counts)] if text]
    parts.append(Text(cost(report), style="dim"))
    return Group(*parts)


def plain_text(renderable: RenderableType, width: int = 80) -> str:
    """Return a renderable as text without colours, `width` columns wide."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as caught:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in caught.get().splitlines()) + "\n"


def _repair_style(report: RepairReport) -> str:
    return "bold red" if is_failed(report) else "bold yellow" if is_doubtful(report) else "bold green"


def _todo(report: ScanReport | RepairReport) -> list[Text]:
    """Say what to do now, and the command that helps."""
    said, command = advice_text(report)
    lines = [Text(f"What to do now: {said}")]
    return [*lines, Text(f"  {printable(command, 400)}")] if command else lines


def _findings(report: ScanReport) -> Table:
    """Return the flagged labels as a table, with a word on how sure they are where the verdict stands."""
    findings, sure = report.findings, report.verdict != "inconclusive"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Target label", overflow="fold", max_width=28)
    has_p = any(finding.p_value is not None for finding in findings)
    for name in ("index", "size", "success", *(["p"] if has_p else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("severity", no_wrap=True)
    if sure:
        table.add_column("confidence", no_wrap=True)
    for finding in findings:
        cells = (
            label_name(finding.label, finding.class_name, 40),
            number(finding.anomaly_index, 1),
            DASH if finding.size is None else f"{number(finding.size, 1)} {finding.unit}",
            percent(finding.attack_success),
            *([DASH if finding.p_value is None else f"{finding.p_value:.1g}"] if has_p else []),
            finding.severity,
            *([finding.confidence] if sure else []),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _nearest(report: ScanReport) -> list[Text]:
    """Say which label came nearest to being flagged, so that silence can be judged."""
    if decides_by_chance(report):
        entry = min(
            (entry for entry in report.evidence if entry.p_value is not None), key=lambda e: e.p_value or 0.0
        )
        name = label_name(entry.label, name_of(report.model, entry.label), 40)
        limit = significance(report)
        flagged = "" if limit is None else f"; labels are flagged below {limit:g} only"
        some = len(report.labels_tested) < report.model.classes
        which = "Most suspicious of the labels tested" if some else "Most suspicious"
        return [Text(f"{which}: label {name}, p = {entry.p_value:.2g}{flagged}.")]
    nearest = max(no_larger(report), key=lambda entry: entry.anomaly_index or 0, default=None)
    if nearest is None:
        return []
    name = label_name(nearest.label, name_of(report.model, nearest.label), 40)
    limit = threshold(report)
    flagged = "" if limit is None else f"; labels with a small trigger are flagged above {limit:g}"
    return [Text(f"Most anomalous: label {name}, index {number(nearest.anomaly_index, 1)}{flagged}.")]


def _warnings(warnings: Sequence[str]) -> list[Text]:
    return [Text(f"Warning: {printable(text, 600)}", style="bold yellow") for text in warnings]


def _items(texts: Sequence[str]) -> list[RenderableType]:
    return [Padding(Text(text), (0, 0, 0, 2)) for text in texts]
