"""The job of a fleet: what is unchanged is kept, all others are looked at, then scanned in their order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from detrojan.data.drawn.synthetic import NONE
from detrojan.errors import DetrojanError, InputError, OptionError
from detrojan.jobs.baselines import Known
from detrojan.jobs.fleet.accepting import Acceptance
from detrojan.jobs.fleet.commands import scan_command
from detrojan.jobs.fleet.feeding import Feeding
from detrojan.jobs.fleet.found import Found, Search
from detrojan.jobs.fleet.judging import PAGE, REPORT, Late, Task, Verdict, judge
from detrojan.jobs.fleet.ledger import RECORD, STATE, Ledger, folder_of, known_models
from detrojan.jobs.fleet.looking import Look, Problem, content_of, look, memory_for, problem_of
from detrojan.jobs.fleet.policy import Policy, digest_of
from detrojan.jobs.fleet.results import read_record, results_of
from detrojan.jobs.inputs import load_data
from detrojan.report.problems import Result
from detrojan.report.records.fleet import FleetModel, FleetRecord
from detrojan.report.report import own_version
from detrojan.run import Run
from detrojan.runner.base import Engine, Outcome

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a call.

    Attributes:
        record: what is known of all models.
        unchanged: how many of them were judged before.
        judged: how many were scanned now.
        results: the reports of all models for other tools, known findings marked; read one by one.
        warnings: what the reader has to know of the known findings.

    """

    record: FleetRecord
    unchanged: int
    judged: int
    results: Iterator[Result]
    warnings: list[str]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A model that was found, how it is fed, and what is known of it at the start."""

    found: Found
    feeding: Feeding
    model: FleetModel


class Fleet:
    """One call on a fleet.

    Args:
        search: the models that were found.
        policy: how they are judged, and what fails.
        run: device and progress; the seed is the policy's.
        engine: who does the work.
        out: the folder of the results.
        budget: seconds after which no scan begins, and those under way end as soon as they can.
        known: findings that are accepted, or None.

    """

    def __init__(
        self,
        search: Search,
        policy: Policy,
        *,
        run: Run,
        engine: Engine,
        out: Path,
        budget: float | None,
        known: Known | None = None,
    ) -> None:
        self._search, self._policy, self._engine, self._out = search, policy, engine, out
        self._run = replace(run, seed=policy.scan.seed)
        self._until = None if budget is None else time.time() + budget
        self._version = own_version()
        self._acceptance = None if known is None else Acceptance(known, out)
        self._ledger = Ledger(out, policy, self._version, search.ignored, self._acceptance)
        self._digests: dict[str, str] = {}

    def scan(self) -> Summary:
        """Look at all models, scan them, and write what is found after each of them.

        Raises:
            DetrojanError: the policy's data cannot be read, or the results cannot be written.
            InterruptedRunError: somebody stopped it; what is known is written.

        """
        self._data_digest(self._policy.models)  # what is wrong with it is said before the work
        known = known_models(read_record(self._out / RECORD), self._out)
        entries = self._entries()
        kept = {
            entry.model.name: before
            for entry in entries
            if (before := known.get((entry.model.name, entry.model.key))) and entry.model.status == "waiting"
        }
        self._ledger.start([kept.get(entry.model.name, entry.model) for entry in entries])
        unchanged = sum(model.status != "waiting" for model in kept.values())
        waiting = {entry.found.name: entry for entry in entries}
        self._look(waiting)
        judged = self._judge(waiting)
        if not self._open():
            shutil.rmtree(self._out / STATE, ignore_errors=True)
        return self._summary(self._ledger.write(), unchanged, judged)

    def _summary(self, record: FleetRecord, unchanged: int, judged: int) -> Summary:
        accepts = self._acceptance
        return Summary(
            record=record,
            unchanged=unchanged,
            judged=judged,
            results=results_of(record, self._out) if accepts is None else accepts.results(record),
            warnings=[] if accepts is None else accepts.warnings(record.models),
        )

    def _open(self) -> list[FleetModel]:
        return [model for model in self._ledger.models if model.status == "waiting"]

    def _entries(self) -> list[_Entry]:
        """Return all models with their digests; of those with the same key the first one alone is judged."""
        entries: list[_Entry] = []
        first: dict[str, str] = {}
        with self._run.progress.task("reading", len(self._search.models)) as task:
            for found in self._search.models:
                task.advance(1, note=found.name)
                entry = self._entry(found)
                if entry.model.key and entry.model.status == "waiting":
                    same = first.setdefault(entry.model.key, found.name)
                    if same != found.name:
                        double = entry.model.model_copy(update={"status": "duplicate", "same_as": same})
                        entry = replace(entry, model=double)
                entries.append(entry)
        return entries

    def _entry(self, found: Found) -> _Entry:
        feeding = found.stated.over(self._policy.models)
        model = FleetModel(
            name=found.name, path=str(found.path), sha256="", bytes=0, key="", status="waiting",
            reason="its turn has not come",
        )  # fmt: skip
        values: dict[str, object] = {}
        try:
            if found.problem:
                raise OptionError(found.problem)
            if found.fetch is not None:
                found = replace(found, path=found.fetch(), fetch=None)
                model = model.model_copy(update={"path": str(found.path)})
            values["sha256"], values["bytes"] = content_of(found.path)
            identity = feeding.identity(self._data_digest(feeding))
            values["key"] = digest_of(
                [values["sha256"], identity, self._policy.digest(), self._version, self._run.device]
            )
        except (DetrojanError, OSError) as error:
            there = found.path.exists()
            usual = problem_of(_ours(error), "unusable" if found.problem or values else "unsupported")
            category = usual.category if there else "missing"
            values |= {"status": "skipped", "category": category, "reason": usual.reason}
        return _Entry(found=found, feeding=feeding, model=model.model_copy(update=values))

    def _data_digest(self, feeding: Feeding) -> str:
        """Return the digest of the data of a model; read once for all models that have the same."""
        if feeding.data == NONE:
            return NONE
        source = feeding.data_source()
        asked = replace(source, samples=1, channels=None, crop=False)
        if (text := repr(asked)) not in self._digests:
            self._digests[text] = load_data(asked, self._run).sha256
        return self._digests[text]

    def _look(self, entries: dict[str, _Entry]) -> None:
        """Look at all models of which nothing is known."""
        items = [
            Look(name=model.name, source=entries[model.name].feeding.model_source(Path(model.path)))
            for model in self._open()
            if model.first is None
        ]
        for name, outcome in self._outcomes(look, items, "first look"):
            found = _said(outcome)
            if isinstance(found, Problem):
                self._skip(name, found, outcome)
            else:
                self._ledger.put(name, lazily=True, first=found, deaths=list(outcome.deaths))

    def _judge(self, entries: dict[str, _Entry]) -> int:
        """Scan what waits, the most suspicious first; return how many models have a verdict now."""
        waiting = sorted(self._open(), key=_suspicion)
        judged = 0
        for name, outcome in self._outcomes(
            judge, [self._task(entries[one.name]) for one in waiting], "scan"
        ):
            found = _said(outcome)
            if isinstance(found, Problem):
                self._skip(name, found, outcome)
            elif isinstance(found, Late):
                self._ledger.put(name, lazily=True, reason=found.reason)
            else:
                assert isinstance(found, Verdict)
                folder = folder_of(name, entries[name].model.key)
                self._ledger.put(
                    name,
                    status="scanned",
                    **vars(found),
                    report=f"{folder}/{REPORT}",
                    page=f"{folder}/{PAGE}",
                    deaths=list(outcome.deaths),
                )
                judged += 1
        return judged

    def _outcomes(
        self, job: Callable[[Run, T], object], items: Sequence[T], title: str
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield the name of each item with its outcome; nothing is started for none."""
        if not items:
            return
        sizes = {model.name: model.bytes for model in self._ledger.models}
        memory = [memory_for(sizes[str(item)]) for item in items]
        for outcome in self._engine.outcomes(job, items, run=self._run, title=title, memory=memory):
            yield str(items[outcome.place]), outcome

    def _task(self, entry: _Entry) -> Task:
        scan, key = self._policy.scan, entry.model.key
        folder = self._out / folder_of(entry.model.name, key)
        return Task(
            name=entry.model.name,
            model=entry.feeding.model_source(entry.found.path),
            data=entry.feeding.data_source(),
            method=scan.method,
            settings=tuple(scan.set),
            budget=scan.budget,
            until=self._until,
            folder=folder,
            state=self._out / STATE / key[:16],
            command=scan_command(entry.found.path, entry.feeding, scan, folder / REPORT),
        )

    def _skip(self, name: str, problem: Problem, outcome: Outcome) -> None:
        self._ledger.put(
            name,
            status="skipped",
            category=problem.category,
            reason=problem.reason,
            deaths=list(outcome.deaths),
        )


def _suspicion(model: FleetModel) -> float:
    """Return what a model is sorted by: a low chance first; what has none comes last."""
    chance = None if model.first is None else model.first.p_value
    return 1.0 if chance is None else chance


def _said(outcome: Outcome) -> object:
    """Return what a job returned; an error becomes the reason why its model is skipped."""
    if outcome.error is None:
        return outcome.value
    lost = outcome.lost
    return Problem(category="lost" if lost else "fault", reason=str(outcome.error))


def _ours(error: Exception) -> DetrojanError:
    return error if isinstance(error, DetrojanError) else InputError(str(error))
