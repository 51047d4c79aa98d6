"""Results as metrics, for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from detrojan.report.outputs.base import Gathering

if TYPE_CHECKING:
    from detrojan.report.problems import Judged, Result

Sample = tuple[str, dict[str, str], float]

#: what each metric says; all are gauges, since every call writes the file anew
_METRICS = {
    "detrojan_exit_code": "What the call answered: 0 passed, 1 failed, 2 error, 3 inconclusive.",
    "detrojan_verdict": "1 for the verdict that was given, by verb and file.",
    "detrojan_problems": "Problems found, by rule, and whether a baseline accepts them.",
    "detrojan_attack_success_ratio": "Share of held-out images that a recovered trigger moves, 0 to 1.",
    "detrojan_labels_tested": "Labels that a scan tested as targets.",
    "detrojan_clean_accuracy_ratio": "Share of images answered rightly, before and after a repair, 0 to 1.",
    "detrojan_samples": "Samples that a filter looked at.",
    "detrojan_samples_flagged": "Samples that a filter took for poisoned.",
    "detrojan_duration_seconds": "How long the call took.",
    "detrojan_finished_timestamp_seconds": "When the call ended, in seconds since 1970.",
    "detrojan_build_info": "1; the version of detrojan.",
}


class Prometheus(Gathering):
    """Gauges with the labels `file` and `verb`: verdicts, problems, figures, times."""

    name = "prometheus"
    help = "Also write metrics here, for Prometheus' textfile collector (.prom)."
    endings = ("prom",)

    def render_all(self, results: Sequence[Result]) -> str:
        """Return the metrics in the text format."""
        from detrojan.report.problems import judged  # noqa: PLC0415 - `--help` shall be fast

        subjects = [judged(result) for result in results]
        samples = [sample for one in subjects for sample in _samples(one)]
        versions = sorted({one.version for one in subjects})
        samples += [("detrojan_build_info", {"version": version}, 1.0) for version in versions]
        lines = []
        for name, said in _METRICS.items():
            found = {_labels(labels): value for metric, labels, value in samples if metric == name}
            if found:
                lines += [f"# HELP {name} {said}", f"# TYPE {name} gauge"]
                lines += [f"{name}{labels} {value:.10g}" for labels, value in found.items()]
        return "\n".join(lines) + "\n"


def _samples(one: Judged) -> Iterator[Sample]:
    """Yield what is known of one result."""
    base = {"file": one.path, "verb": one.verb}
    yield "detrojan_exit_code", base, float(one.exit_code)
    yield "detrojan_verdict", base | {"verdict": one.verdict}, 1.0
    for rule in dict.fromkeys(problem.rule.id for problem in one.problems):
        for accepted in (False, True):
            count = sum(
                problem.rule.id == rule and (problem.accepted is not None) is accepted
                for problem in one.problems
            )
            yield "detrojan_problems", base | {"rule": rule, "accepted": str(accepted).lower()}, float(count)
    yield from _figures(one)
    yield "detrojan_duration_seconds", base, one.seconds
    if one.ended:
        yield "detrojan_finished_timestamp_seconds", base, datetime.fromisoformat(one.ended).timestamp()


def _figures(one: Judged) -> Iterator[Sample]:
    """Yield what was measured."""
    from detrojan.report.records.filter import FilterRecord  # noqa: PLC0415
    from detrojan.report.schema import RepairReport, ScanReport  # noqa: PLC0415

    base = {"file": one.path, "verb": one.verb}
    for problem in one.problems:
        if problem.attack_success is not None:
            told = base | {"rule": problem.rule.id}
            told["label"] = "" if problem.label is None else str(problem.label)
            told["source"] = "" if problem.source is None else str(problem.source)
            yield "detrojan_attack_success_ratio", told, problem.attack_success
    result = one.result
    if isinstance(result, ScanReport):
        yield "detrojan_labels_tested", base, float(len(result.labels_tested))
    if isinstance(result, RepairReport):
        for when, measured in (("before", result.before), ("after", result.after)):
            if measured.clean_accuracy is not None:
                yield "detrojan_clean_accuracy_ratio", base | {"when": when}, measured.clean_accuracy
    if isinstance(result, FilterRecord):
        yield "detrojan_samples", base, float(result.data.samples)
        yield "detrojan_samples_flagged", base, float(result.flagged)


def _labels(labels: dict[str, str]) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\""))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
