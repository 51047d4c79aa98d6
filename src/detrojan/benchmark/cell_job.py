"""One cell of a plan: what its result depends on, and how it is computed."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detrojan.benchmark.cache import key_of
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Subject, Workshop, modules_of
from detrojan.benchmark.measuring import Measured, NotApplicableError, measure
from detrojan.benchmark.parts import NONE, Cell, DefencePlan
from detrojan.benchmark.provenance import code_digest, surroundings
from detrojan.benchmark.results import Row
from detrojan.benchmark.scanning import read_scan, write_scan
from detrojan.benchmark.settings import method_of
from detrojan.errors import DetrojanError, InterruptedRunError
from detrojan.findings import ScanResult
from detrojan.method import Method
from detrojan.scans.base import Scan

logger = logging.getLogger(__name__)


class CellJob:
    """One cell: what it depends on, and its row.

    Args:
        workshop: makes what cells share.
        cell: the cell.

    """

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
