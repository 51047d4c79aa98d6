"""The policy of a fleet: one file that says how models are judged, and what fails."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from detrojan.errors import OptionError
from detrojan.files import read_bounded
from detrojan.findings import Level
from detrojan.jobs.fleet.feeding import Feeding, refuse_code
from detrojan.jobs.scanning import scan_named
from detrojan.records import Part, wrong_places
from detrojan.report.records.fleet import LEVELS, FleetModel
from detrojan.scans.base import Scan

_MOST_BYTES = 1 << 20


class ScanPart(Part):
    """How each model is scanned: the method, its settings, its seed, and seconds for one model."""

    method: str = "cascade"
    set: list[str] = Field(default_factory=list)
    budget: Annotated[float, Field(gt=0)] | None = None
    seed: int = 0


class FailPart(Part):
    """What fails: findings of these severities, files that would run code, and models without a verdict."""

    severities: list[Level] = Field(default_factory=lambda: list(LEVELS))
    unsafe: bool = True
    inconclusive: bool = True
    skipped: bool = True


class Policy(Part):
    """What a policy file says."""

    models: Feeding = Feeding()
    scan: ScanPart = ScanPart()
    fail: FailPart = FailPart()

    def method(self) -> Scan:
        """Return the scan.

        Raises:
            OptionError: no such scan or setting.

        """
        return scan_named(self.scan.method, self.scan.set, self.models.samples, self.scan.budget)

    def digest(self) -> str:
        """Return a digest of what results depend on, except for the data and the files that are named."""
        method = self.method()
        values = {"method": method.name, **method.hyper_parameters(), "seed": self.scan.seed}
        return digest_of(values)

    def fails(self, model: FleetModel) -> bool:
        """Tell whether a model fails by a finding, or as a file that would run code.

        A finding that a baseline accepts does not count. A backdoor without a severity, whose target nobody
        can name, fails wherever any severity does.
        """
        if model.category == "unsafe":
            return self.fail.unsafe
        if model.verdict != "backdoored" or model.accepted:
            return False
        severity = model.severity if model.baseline is None else model.baseline.severity
        return bool(self.fail.severities) if severity is None else severity in self.fail.severities

    def leaves_open(self, model: FleetModel) -> bool:
        """Tell whether a model without a verdict counts."""
        if model.status == "skipped":
            return self.fail.skipped
        unsaid = model.verdict == "inconclusive" and not model.accepted
        return self.fail.inconclusive and (model.status == "waiting" or unsaid)

    def exit_code(self, models: Sequence[FleetModel]) -> int:
        """Return 1 where a model fails, 3 where one has no verdict and that counts, else 0."""
        if any(self.fails(model) for model in models):
            return 1
        return 3 if any(self.leaves_open(model) for model in models) else 0


def digest_of(values: Any) -> str:
    """Return a digest of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def read_policy(path: Path | None, data: str | None = None, seed: int = 0) -> Policy:
    """Read a policy file, a TOML file with the tables models, scan and fail.

    Args:
        path: the file; None for the usual policy.
        data: the data that go before the policy's.
        seed: of the scans, where the policy states none.

    Raises:
        OptionError: no TOML, or something in it that makes no sense; the message says where.
        InputError: it cannot be read, or states what would run code.

    """
    stated: dict[str, Any] = {}
    where, base = "the policy", Path()
    if path is not None:
        where, base = str(path), path.parent
        try:
            stated = tomllib.loads(read_bounded(path, _MOST_BYTES).decode("utf-8"))
        except OSError as error:
            raise OptionError(f"the policy {path} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OptionError(f"{path} is no TOML: {error}") from error
    models = stated.pop("models", {})
    if not isinstance(models, dict):
        raise OptionError(f"{where}: models: expected a table, got {models!r:.60}")
    refuse_code(models, where)
    feeding = Feeding.read(models, base, f"{where}: models")
    if data is not None:
        feeding = Feeding(data=data).over(feeding)
    try:
        policy = Policy(models=feeding, **stated)
        if "seed" not in policy.scan.model_fields_set:
            policy = policy.model_copy(update={"scan": policy.scan.model_copy(update={"seed": seed})})
    except (ValidationError, TypeError) as error:
        said = wrong_places(error, "policy") if isinstance(error, ValidationError) else str(error)
        raise OptionError(f"{where}: {said}") from error
    policy.method()
    return policy
