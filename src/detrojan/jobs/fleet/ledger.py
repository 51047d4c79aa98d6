"""What is known of a fleet so far: one file that is whole at any moment."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detrojan.files import save_text
from detrojan.jobs.fleet.accepting import Acceptance
from detrojan.jobs.fleet.policy import Policy
from detrojan.report.fleet_page import render_fleet
from detrojan.report.records.fleet import Category, FleetModel, FleetRecord

RECORD, PAGE, MODELS, STATE = "fleet.json", "index.html", "models", "state"
#: reasons to skip a model that hold as long as the model and the policy are the same
LASTING: frozenset[Category] = frozenset({"unsafe", "unsupported", "unreadable", "unusable"})
#: seconds between two pages, and two records of first looks, while the work goes on
_EVERY = 5.0


class Ledger:
    """The models of a fleet in their order, written to `fleet.json` after each one that is judged.

    Args:
        out: the folder.
        policy: says what fails.
        version: of detrojan.
        ignored: files that are no models.
        acceptance: what known findings are accepted, or None.

    """

    def __init__(
        self,
        out: Path,
        policy: Policy,
        version: str,
        ignored: int,
        acceptance: Acceptance | None = None,
    ) -> None:
        self.out = out
        self._acceptance = acceptance
        self._policy, self._version, self._ignored = policy, version, ignored
        self._models: dict[str, FleetModel] = {}
        self._written = self._drawn = 0.0

    def start(self, models: Sequence[FleetModel]) -> None:
        """Take these models, each name once, and write them."""
        self._models = {model.name: model for model in models}
        self.write()

    @property
    def models(self) -> list[FleetModel]:
        """The models in their order."""
        return list(self._models.values())

    def put(self, name: str, *, lazily: bool = False, **values: Any) -> None:
        """Change what is known of a model, and write it.

        Args:
            name: the model's.
            lazily: do not write more often than every few seconds.
            values: by field.

        """
        self._models[name] = self._models[name].model_copy(update=values)
        if not lazily or time.monotonic() - self._written > _EVERY:
            self.write(page=time.monotonic() - self._drawn > _EVERY)

    def record(self) -> FleetRecord:
        """Return what is known, the duplicates with what was found out about their content."""
        models = [self._whole(model) for model in self._models.values()]
        record = FleetRecord(
            version=self._version,
            policy=self._policy.digest(),
            models=models,
            ignored=self._ignored,
            failing=[model.name for model in models if self._policy.fails(model)],
            exit_code=self._policy.exit_code(models),
        )
        if self._acceptance is None:
            return record
        return record.model_copy(update={"baseline": self._acceptance.facts(models)})

    def _whole(self, model: FleetModel) -> FleetModel:
        first = self._models.get(model.same_as or "")
        if first is not None:
            names = ("category", "first", "verdict", "severity", "confidence", "targets", "report", "page")
            model = model.model_copy(update={name: getattr(first, name) for name in names})
        known = None if self._acceptance is None else self._acceptance.of(model)
        return model.model_copy(update={"baseline": known})

    def write(self, *, page: bool = True) -> FleetRecord:
        """Write the record, and the page too; both are whole at any moment.

        Raises:
            InputError: they cannot be written.

        """
        record = self.record()
        record.save(self.out / RECORD)
        self._written = time.monotonic()
        if page:
            save_text(self.out / PAGE, render_fleet(record))
            self._drawn = time.monotonic()
        return record


def known_models(record: FleetRecord | None, out: Path) -> Mapping[tuple[str, str], FleetModel]:
    """Return what an earlier record knows, by name and key: what still holds and lies where it says."""
    if record is None:
        return {}
    return {(model.name, model.key): model for model in record.models if _holds(model, out)}


def _holds(model: FleetModel, out: Path) -> bool:
    if model.status == "scanned":
        return all(one is not None and (out / one).is_file() for one in (model.report, model.page))
    return model.status == "waiting" or (model.status == "skipped" and model.category in LASTING)


def folder_of(name: str, key: str) -> str:
    """Return the folder of a model within that of the fleet: readable, and never that of another model."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name).strip(".-")[:40] or "model"
    return f"{MODELS}/{readable}-{key[:12]}"
