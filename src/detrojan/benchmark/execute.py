"""Runs a plan: cell by cell, each result written at once, what is finished never computed again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from detrojan.benchmark.cache import Cache, key_of
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Subject, Workshop, modules_of
from detrojan.benchmark.materials import Paths
from detrojan.benchmark.measuring import Measured, NotApplicableError, measure
from detrojan.benchmark.parts import NONE, Cell, DefencePlan
from detrojan.benchmark.plan import Plan
from detrojan.benchmark.provenance import code_digest, surroundings
from detrojan.benchmark.results import Row, add_rows, order_rows, start_rows
from detrojan.benchmark.scanning import read_scan, write_scan
from detrojan.benchmark.settings import method_of
from detrojan.errors import DetrojanError, InterruptedRunError, OptionError
from detrojan.findings import ScanResult
from detrojan.method import Method
from detrojan.run import Run
from detrojan.runner.base import Engine
from detrojan.runner.here import Here
from detrojan.scans.base import Scan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run of a plan.

    Attributes:
        done: cells computed now.
        kept: cells that were finished before.
        skipped: cells that make no sense, by their reasons in the results.
        failed: cells that ended in an error, with it.

    """

    done: int
    kept: int
    skipped: int
    failed: tuple[tuple[Cell, str], ...]


def execute(
    workshop: Workshop,
    out: Path,
    *,
    any_code: bool = False,
    attacks: Collection[str] = (),
    engine: Engine | None = None,
) -> Summary:
    """Run every cell of a plan whose result is not yet in `out`.

    Args:
        workshop: the plan and what is made for it.
        out: the results file, one JSON object per line.
        any_code: results of other versions of the code count as finished.
        attacks: only cells with these attacks, by their names in the plan; empty for all.
        engine: who computes the cells; None for this process. The results end in the plan's order.

    Raises:
        InputError, DataError: the file cannot be used.
        OptionError: nobody says where a data set lies, or no cell has such an attack.

    """
    cells = workshop.plan.cells()
    known_attacks = dict.fromkeys(cell.attack for cell in cells)
    for name in attacks:
        if name not in known_attacks:
            raise OptionError(f"expected attacks out of {', '.join(known_attacks)}, got {name!r}")
    cells = [cell for cell in cells if not attacks or cell.attack in attacks]
    for cell in cells:
        workshop.depends(cell)  # what is missing is said before anything is trained
    finished = {
        str(row["cell"]): str(row.get("code"))
        for row in start_rows(out)
        if row["status"] in {"done", "not applicable"}
    }
    jobs = [_Job(workshop, cell) for cell in cells]
    todo = [
        job for job in jobs if (known := finished.get(job.key)) is None or not (any_code or known == job.code)
    ]
    counts = Counter[str]()
    failed: dict[str, tuple[Cell, str]] = {}
    for job, row in _rows(workshop, todo, engine or Here()):
        add_rows(out, [row])
        counts[str(row["status"])] += 1
        if row["status"] == "failed":
            failed[job.key] = (job.cell, row["reason"])
    if engine is not None:
        order_rows(out, [job.key for job in jobs])
    return Summary(
        done=counts["done"],
        kept=len(jobs) - len(todo),
        skipped=counts["not applicable"],
        failed=tuple(failed[job.key] for job in todo if job.key in failed),
    )


@dataclass(frozen=True)
class _Item:
    """A cell to compute; its text is what people call it."""

    cell: Cell
    title: str

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What a workshop is made of, elsewhere too."""

    plan: Plan
    paths: Paths
    cache: Cache
    device: str
    mixed_precision: bool | None

    def workshop(self) -> Workshop:
        """Return the workshop of this process; what cells share is at hand in it."""
        key = key_of([self.plan.model_dump(mode="json"), str(self)])
        if key not in _AT_HAND:
            _AT_HAND.clear()
            _AT_HAND[key] = Workshop(**vars(self))
        return _AT_HAND[key]


#: the workshop of this process, by what it is made of
_AT_HAND: dict[str, Workshop] = {}


def _cell_row(means: _Means, run: Run, item: _Item) -> Row:
    """Compute a cell in any process."""
    workshop = means.workshop()
    workshop.progress = run.progress
    return _Job(workshop, item.cell).row()


def _rows(workshop: Workshop, jobs: Sequence[_Job], engine: Engine) -> Iterator[tuple[_Job, Row]]:
    """Yield each cell's row as it becomes known.

    Raises:
        Exception: what went wrong in a cell without being an error of ours.

    """
    run = Run(device=workshop.device, progress=workshop.progress)
    if isinstance(engine, Here):
        work: Callable[[Run, _Item], Row] = partial(_row_of, workshop)
    else:
        jobs = _spread(jobs)
        work = partial(_cell_row, _Means(
            plan=workshop.plan, paths=workshop.paths, cache=workshop.cache, device=workshop.device,
            mixed_precision=workshop.mixed_precision,
        ))  # fmt: skip
    items = [_Item(job.cell, job.title) for job in jobs]
    for outcome in engine.outcomes(work, items, run=run, title=workshop.plan.name):
        job = jobs[outcome.place]
        if outcome.lost:
            yield job, job.lost(str(outcome.error))
        elif outcome.error is not None:
            raise outcome.error
        else:
            yield job, outcome.value


def _row_of(workshop: Workshop, _run: Run, item: _Item) -> Row:
    """Compute a cell in this process."""
    return _Job(workshop, item.cell).row()


def _spread(jobs: Sequence[_Job]) -> list[_Job]:
    """Return cells with those first that need different networks: nobody waits for another one's training."""
    seen: Counter[str] = Counter()
    places: list[tuple[int, int]] = []
    for number, job in enumerate(jobs):
        subject = key_of(job.workshop.depends(job.cell))
        places.append((seen[subject], number))
        seen[subject] += 1
    return [jobs[number] for _, number in sorted(places)]


class _Job:
    """One cell: what it depends on, and its row."""

    def __init__(self, workshop: Workshop, cell: Cell) -> None:
        self.workshop, self.cell = workshop, cell
        plan = workshop.plan
        self.defence: DefencePlan | None = None if cell.defence == NONE else plan.defences[cell.defence]
        self.method = None if self.defence is None else _method(self.defence)
        self.scan = plan.defences.get(self.defence.findings) if self.defence is not None else None
        self.title = f"{cell.data} {cell.attack} {cell.defence}"
        self.depends = {**workshop.depends(cell), "defence": self._identity()}
        self.key = key_of(self.depends)
        methods = [method for method in (self.method, self._scan_method()) if method is not None]
        modules = [__name__, *(module for method in methods for module in modules_of(method))]
        self.code = key_of([workshop.code(cell), code_digest(modules)])

    def _scan_method(self) -> Method | None:
        return None if self.scan is None else _method(self.scan)

    def _identity(self) -> Any:
        if self.defence is None or self.method is None:
            return None
        scan = self._scan_method()
        return {
            "room": self.defence.room,
            "method": self.method.name,
            "hyper_parameters": self.method.hyper_parameters(),
            "findings": self.defence.findings if self.scan is None else None,
            "scan": None if scan is None else {"method": scan.name, **scan.hyper_parameters()},
            "inputs": self.defence.inputs if self.defence.room == "guards" else None,
        }

    def lost(self, reason: str) -> Row:
        """Return the row of a cell that no worker finished."""
        return {
            **self._head(),
            "status": "failed",
            "reason": reason,
            "provenance": {**surroundings(self.workshop.device), "seconds": None, "when": _now()},
        }

    def row(self) -> Row:
        """Compute the cell; an error becomes a row too, and is tried again by the next run."""
        begun = time.monotonic()
        try:
            found = self._measured()
        except NotApplicableError as error:
            found = {"status": "not applicable", "reason": str(error)}
        except InterruptedRunError:
            raise
        except DetrojanError as error:
            logger.warning("%s failed: %s", self.title, error)
            found = {"status": "failed", "reason": str(error)}
        return {
            **self._head(),
            **found,
            "provenance": {
                **surroundings(self.workshop.device),
                "seconds": round(time.monotonic() - begun, 3),
                "when": _now(),
            },
        }

    def _head(self) -> Row:
        plan, cell = self.workshop.plan, self.cell
        sizes = plan.sizes.model_dump()
        return {
            "cell": self.key,
            "code": self.code,
            "plan": {"name": plan.name, "title": plan.title, "sha256": plan.sha256},
            "profile": plan.profile,
            "sizes": sizes,
            **cell.model_dump(),
            "room": self.defence.room if self.defence is not None else "",
            "about": {
                "data": plan.data[cell.data].about,
                "network": plan.networks[cell.network].about or plan.networks[cell.network].net,
                "attack": plan.attacks[cell.attack].about if cell.attack != NONE else "",
                "defence": self.defence.about if self.defence is not None else "",
            },
            "settings": self.depends,
            "reference": plan.referred(cell),
        }

    def _measured(self) -> Row:
        workshop, cell = self.workshop, self.cell
        subject, material = workshop.subject(cell), workshop.material(cell)
        own, twin = self._before(subject)
        begun = time.monotonic()
        seconds = dict(subject.seconds)
        checkpoint = workshop.cache.folder / "running" / f"cell-{key_of([self.key, self.code])[:24]}"
        run = workshop.run(cell.seed, checkpoint)

        def scanned(name: str) -> ScanResult:
            result, spent = self._scanned(name, subject)
            seconds["scan"] = spent
            return result

        if self.method is None or self.defence is None:
            measured = Measured(figures=own, details={})
        else:
            measured = measure(
                self.method,
                subject,
                material,
                knows=self.defence.findings,
                own=cell.defence,
                scanned=scanned,
                start=lambda: workshop.start(cell, workshop.run(cell.seed)),
                inputs=self.defence.inputs,
                run=run,
            )
            if not isinstance(self.method, Scan):
                seconds["defence"] = round(time.monotonic() - begun, 3)
        _remove(checkpoint)
        return {
            "status": "done",
            "figures": measured.figures,
            "subject": own,
            "twin": {name: twin.get(name) for name in ("ca", "asr", "asr_each")},
            "poisoned": None if subject.poisoned is None else len(subject.poisoned.indices),
            "images": {
                "train": len(material.train), "clean": len(material.clean), "test": len(material.test),
            },
            "seconds": seconds,
            "details": measured.details,
        }  # fmt: skip

    def _before(self, subject: Subject) -> tuple[Row, Row]:
        """Return what the subject and its clean twin do without a defence; measured once for all cells."""
        known, key = self.workshop.measured, key_of(self.workshop.depends(self.cell))
        if key not in known:
            judge = Judge.of(subject, self.workshop.material(self.cell))
            twin = {} if subject.twin is None else judge.measure(subject.twin)
            known[key] = (judge.measure(subject.model), twin)
        own: tuple[Row, Row] = known[key]
        return own

    def _scanned(self, name: str, subject: Subject) -> tuple[ScanResult, float]:
        """Return a scan's result on the subject, and the seconds it took when it was made."""
        workshop, cell = self.workshop, self.cell
        method = _method(workshop.plan.defences[name])
        assert isinstance(method, Scan)
        depends = {**workshop.depends(cell), "scan": [method.name, method.hyper_parameters()]}
        begun = time.monotonic()

        def make(folder: Path) -> ScanResult:
            run = workshop.run(cell.seed, folder)
            return method.scan(subject.model, workshop.material(cell).clean, run=run)

        def write(result: ScanResult, place: Path) -> dict[str, Any]:
            write_scan(result, place)
            return {"seconds": round(time.monotonic() - begun, 3)}

        result, record = workshop.cache.get(
            "scan",
            depends,
            key_of([workshop.code(cell), code_digest(modules_of(method))]),
            make=make,
            write=write,
            read=lambda place, _record: read_scan(place),
        )
        return result, record["seconds"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _method(plan: DefencePlan) -> Method:
    return method_of(plan.room, plan.method, plan.set)


def _remove(folder: Path) -> None:
    """Remove the state of finished work."""
    if folder.is_dir():
        for path in folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
