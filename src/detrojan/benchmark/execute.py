"""Runs a plan: cell by cell, each result written at once, what is finished never computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detrojan.benchmark.cache import Cache, key_of
from detrojan.benchmark.cell_job import CellJob
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.materials import Paths
from detrojan.benchmark.parts import Cell
from detrojan.benchmark.plan import Plan
from detrojan.benchmark.results import Row, add_rows, order_rows, start_rows
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.runner.base import Engine
from detrojan.runner.here import Here


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
    jobs = [CellJob(workshop, cell) for cell in cells]
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
    return CellJob(workshop, item.cell).row()


def _rows(workshop: Workshop, jobs: Sequence[CellJob], engine: Engine) -> Iterator[tuple[CellJob, Row]]:
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
    return CellJob(workshop, item.cell).row()


def _spread(jobs: Sequence[CellJob]) -> list[CellJob]:
    """Return cells with those first that need different networks: nobody waits for another one's training."""
    seen: Counter[str] = Counter()
    places: list[tuple[int, int]] = []
    for number, job in enumerate(jobs):
        subject = key_of(job.workshop.depends(job.cell))
        places.append((seen[subject], number))
        seen[subject] += 1
    return [jobs[number] for _, number in sorted(places)]
