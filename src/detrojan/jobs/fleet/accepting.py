"""Known findings of a fleet: what a baseline accepts of each model's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from detrojan.errors import DataError
from detrojan.jobs.baselines import Known, accept
from detrojan.jobs.fleet.results import report_of, results_of
from detrojan.report.problems import Result, judged
from detrojan.report.records.fleet import FleetModel, FleetRecord, ModelBaseline, highest
from detrojan.report.schema import BaselineFacts, ScanReport


class Acceptance:
    """What a baseline accepts of a fleet; each report is read once, all with the date of the first one.

    Args:
        known: the baseline.
        out: the folder of the fleet.

    """

    def __init__(self, known: Known, out: Path) -> None:
        self._known, self._out = known, out
        self._today = datetime.now(UTC).date()
        self._facts: dict[tuple[str, str | None], tuple[ModelBaseline, BaselineFacts, list[str]]] = {}

    def of(self, model: FleetModel) -> ModelBaseline | None:
        """Return what is accepted of a model; None where it has no report that can be read."""
        found = self._of(model)
        return None if found is None else found[0]

    def facts(self, models: Sequence[FleetModel]) -> BaselineFacts:
        """Return what is accepted of all models together."""
        each = [found[1] for model in models if (found := self._of(model)) is not None]
        return BaselineFacts(
            path=self._known.path,
            sha256=self._known.sha256,
            accepted=sum(one.accepted for one in each),
            new=sum(one.new for one in each),
            expired=sum(one.expired for one in each),
            absent=sorted({name for one in each for name in one.absent}),
        )

    def warnings(self, models: Sequence[FleetModel]) -> list[str]:
        """Return what the reader has to know: entries that are too old, and files that were exchanged."""
        said = [f"{model.name}: {text}" for model in models for text in (self._of(model) or ((), (), ()))[2]]
        return list(dict.fromkeys(said))

    def results(self, record: FleetRecord) -> Iterator[Result]:
        """Yield what `results_of` does, with known findings marked.

        Raises:
            DataError: a report that cannot be read, or is no scan's.

        """
        for result in results_of(record, self._out):
            yield self._accepted(result) if isinstance(result, ScanReport) else result

    def _accepted(self, report: ScanReport) -> ScanReport:
        return accept(report, self._known, today=self._today)

    def _of(self, model: FleetModel) -> tuple[ModelBaseline, BaselineFacts, list[str]] | None:
        key = (model.name, model.report)
        if key in self._facts:
            return self._facts[key]
        try:
            before = report_of(model, self._out)
        except DataError:  # nothing of it is accepted
            return None
        if before is None:
            return None
        report = self._accepted(before)
        assert report.baseline is not None
        problems = judged(report).problems
        granted = [problem.accepted for problem in problems if problem.accepted is not None]
        counting = [problem.severity for problem in problems if problem.accepted is None]
        own = ModelBaseline(
            accepted=len(granted),
            new=len(counting),
            severity=highest(level for level in counting if level is not None),
            reason=granted[0].reason if granted else "",
            expires=granted[0].expires if granted else None,
        )
        self._facts[key] = own, report.baseline, report.warnings[len(before.warnings) :]
        return self._facts[key]
