"""What results come to for other tools: one subject, its verdict, and its problems, each under a rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata

from detrojan.findings import Level
from detrojan.report.records.filter import FilterRecord
from detrojan.report.rules import (
    ALL_TO_ALL,
    INCONCLUSIVE,
    NOT_REPAIRED,
    NOT_VERIFIED,
    POISONED,
    SOURCE_SPECIFIC,
    TARGETED,
    UNNAMED,
    UNREADABLE,
    UNSAFE,
    Rule,
)
from detrojan.report.schema import AcceptedFacts, FlaggedLabel, RepairReport, ScanReport
from detrojan.report.sentences import (
    failure_sentence,
    finding_sentence,
    is_doubtful,
    is_failed,
    repair_sentence,
    verdict_sentence,
)
from detrojan.words import file_name, plural, sentence


@dataclass(frozen=True, kw_only=True)
class NotJudged:
    """A file that could not be judged, beside those that could.

    Attributes:
        path: the file.
        error: why, in one line.
        unsafe: whether it would have run code.
        verb: what was to be done with it.
        started: when, in UTC, ISO 8601; empty where nobody knows.
        seconds: how long that took.

    """

    path: str
    error: str
    unsafe: bool = False
    verb: str = "scan"
    started: str = ""
    seconds: float = 0.0


#: what the outputs for other tools are made of
Result = ScanReport | RepairReport | FilterRecord | NotJudged


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, under its rule.

    Attributes:
        rule: the kind of problem.
        message: what was found, in one or two sentences.
        fingerprint: the same for the same problem of the same model in every scan; see `fingerprint`.
        label: the target, or None.
        source: the only class that the trigger works on, or None for all.
        offset: how far labels are shifted, 0 where they are not.
        class_name: of the label.
        severity: how bad it is if true, or None.
        confidence: how sure the scan is, or None.
        attack_success: share of held-out images that the recovered trigger moves, or None.
        trigger: the file of the recovered trigger, or None.
        accepted: what a baseline says of it, or None.

    """

    rule: Rule
    message: str
    fingerprint: str
    label: int | None = None
    source: int | None = None
    offset: int = 0
    class_name: str = ""
    severity: Level | None = None
    confidence: Level | None = None
    attack_success: float | None = None
    trigger: str | None = None
    accepted: AcceptedFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One result, as other tools read it.

    Attributes:
        verb: what was done: "scan", "repair" or "filter".
        path: the model's or the data's file.
        sha256: its digest; empty where it was not read.
        verdict: in a word or two.
        said: the verdict as a sentence.
        problems: what is wrong; empty where nothing is.
        exit_code: what the command line answers.
        version: of detrojan.
        method: what was used.
        seed: of the call, or None.
        started: when, in UTC, ISO 8601; empty where nobody knows.
        seconds: wall time.
        command: the words of the call, or None in library use.
        done: whether it came to a result at all.
        baselined: whether known findings were taken into account.
        result: what all this was made from.

    """

    verb: str
    path: str
    sha256: str = ""
    verdict: str
    said: str
    problems: tuple[Problem, ...] = ()
    exit_code: int
    version: str
    method: str = ""
    seed: int | None = None
    started: str = ""
    seconds: float = 0.0
    command: tuple[str, ...] | None = None
    done: bool = True
    baselined: bool = False
    result: Result

    @property
    def ended(self) -> str:
        """When it ended, in UTC, ISO 8601; empty where nobody knows when it began."""
        if not self.started:
            return ""
        end = datetime.fromisoformat(self.started) + timedelta(seconds=self.seconds)
        return end.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def fingerprint(rule: Rule, path: str, *, label: int | None, source: int | None, offset: int) -> str:
    """Return what tells a problem from others, scan after scan: 32 hexadecimal digits.

    It is made of the rule, the model's file name, the target, the source and the shift. A scan of the same
    file with another seed gives the same one. So does a retrained model under the same name. The recovered
    trigger is left out: another seed finds another one, in another place, for the same backdoor.

    Args:
        rule: the kind of problem.
        path: the model's file; its last part counts.
        label: the target, or None.
        source: the only class that the trigger works on, or None.
        offset: how far labels are shifted.

    """
    text = "\n".join(map(str, ("detrojan/1", rule.id, file_name(path), label, source, offset)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def judged(result: Result) -> Judged:
    """Return a result as other tools read it."""
    if isinstance(result, ScanReport):
        return _of_scan(result)
    if isinstance(result, RepairReport):
        return _of_repair(result)
    return _of_filter(result) if isinstance(result, FilterRecord) else _of_nothing(result)


def scan_exit(report: ScanReport) -> int:
    """Return a scan's exit code: 0 no evidence or all accepted, 1 backdoored, 3 inconclusive."""
    if all(problem.accepted is not None for problem in _scan_problems(report)):
        return 0
    return 3 if report.verdict == "inconclusive" else 1


def finding_rule(finding: FlaggedLabel) -> Rule:
    """Return the rule that a flagged label comes under."""
    if finding.aim.offset:
        return ALL_TO_ALL
    return TARGETED if finding.aim.source is None else SOURCE_SPECIFIC


def finding_fingerprint(finding: FlaggedLabel, path: str) -> str:
    """Return the fingerprint of a flagged label of the model at `path`."""
    aim = finding.aim
    label = None if aim.offset else finding.label
    return fingerprint(finding_rule(finding), path, label=label, source=aim.source, offset=aim.offset)


def _scan_problems(report: ScanReport) -> Iterator[Problem]:
    """Yield what is wrong; the labels of one all-to-all backdoor are one problem."""
    path, seen = report.model.path, set[str]()
    accepted = None if report.baseline is None else report.baseline.verdict
    if report.verdict == "inconclusive" or (report.verdict == "backdoored" and not report.findings):
        rule = UNNAMED if report.verdict == "backdoored" else INCONCLUSIVE
        yield Problem(
            rule=rule,
            message=f"{verdict_sentence(report)} {sentence(report.reason)}",
            fingerprint=fingerprint(rule, path, label=None, source=None, offset=0),
            accepted=accepted,
        )
        return
    for finding in report.findings:
        own = finding_fingerprint(finding, path)
        if own in seen:
            continue
        seen.add(own)
        aim = finding.aim
        yield Problem(
            rule=finding_rule(finding),
            message=finding_sentence(finding, report),
            fingerprint=own,
            label=None if aim.offset else finding.label,
            source=aim.source,
            offset=aim.offset,
            class_name="" if aim.offset else finding.class_name,
            severity=finding.severity,
            confidence=finding.confidence,
            attack_success=finding.attack_success,
            trigger=finding.trigger,
            accepted=finding.accepted,
        )


def _of_scan(report: ScanReport) -> Judged:
    return Judged(
        verb="scan",
        path=report.model.path,
        sha256=report.model.sha256,
        verdict=report.verdict,
        said=verdict_sentence(report),
        problems=tuple(_scan_problems(report)),
        exit_code=scan_exit(report),
        version=report.run.versions.get("detrojan", ""),
        method=report.run.method,
        seed=report.run.seed,
        started=report.run.started,
        seconds=report.seconds,
        command=None if report.run.command is None else tuple(report.run.command),
        baselined=report.baseline is not None,
        result=report,
    )


def _of_repair(report: RepairReport) -> Judged:
    """Return a repair; its subject is the repaired file, or the delivered one where none was written."""
    outcome, code, rule = "repaired", 0, None
    if is_failed(report):
        outcome, code, rule = "not repaired", 1, NOT_REPAIRED
    elif is_doubtful(report):
        outcome, code, rule = "not verified", 3, NOT_VERIFIED
    path = report.output or report.model.path
    said = repair_sentence(report)
    wrong = failure_sentence(report)
    problems = () if rule is None else (
        Problem(
            rule=rule,
            message=wrong or said,
            fingerprint=fingerprint(rule, path, label=None, source=None, offset=0),
        ),
    )  # fmt: skip
    return Judged(
        verb="repair",
        path=path,
        sha256=(report.output_sha256 or "") if report.output else report.model.sha256,
        verdict=outcome,
        said=said,
        problems=problems,
        exit_code=code,
        version=report.run.versions.get("detrojan", ""),
        method=report.run.method,
        seed=report.run.seed,
        started=report.run.started,
        seconds=report.seconds,
        command=None if report.run.command is None else tuple(report.run.command),
        result=report,
    )


def _of_filter(record: FilterRecord) -> Judged:
    said = f"{record.flagged:,} of {plural(record.data.samples, 'sample')} are taken for poisoned."
    problems = tuple(
        Problem(
            rule=POISONED,
            message=f"{plural(int(told['flagged']), 'sample')} of label {label} are taken for poisoned.",
            fingerprint=fingerprint(POISONED, record.data.source, label=int(label), source=None, offset=0),
            label=int(label),
        )
        for label, told in record.classes.items()
        if told.get("flagged")
    )
    return Judged(
        verb="filter",
        path=record.data.source,
        sha256=record.data.sha256,
        verdict="flagged" if record.flagged else "nothing flagged",
        said=said,
        problems=problems,
        exit_code=1 if record.flagged else 0,
        version=_version(),
        method=record.method,
        seed=record.seed,
        started=record.started or "",
        seconds=record.seconds or 0.0,
        command=None if record.command is None else tuple(record.command),
        result=record,
    )


def _of_nothing(result: NotJudged) -> Judged:
    rule = UNSAFE if result.unsafe else UNREADABLE
    return Judged(
        verb=result.verb,
        path=result.path,
        verdict="not judged",
        said=sentence(result.error),
        problems=(
            Problem(
                rule=rule,
                message=sentence(result.error),
                fingerprint=fingerprint(rule, result.path, label=None, source=None, offset=0),
            ),
        ),
        exit_code=2,
        version=_version(),
        started=result.started,
        seconds=result.seconds,
        done=False,
        result=result,
    )


def _version() -> str:
    try:
        return metadata.version("detrojan")
    except metadata.PackageNotFoundError:
        return "unknown"
