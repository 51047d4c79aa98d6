"""What every guard of a running model shares: calibrated once, it judges inputs one by one."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, InputError, ModelError, OptionError
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import digest

#: the two files of a saved guard
VALUES, TENSORS = "guard.json", "guard.safetensors"
SCHEMA = "detrojan.guard/2"
#: no guard's values are longer
_MOST_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated(ABC):
    """A guard bound to one model, its threshold set on clean inputs.

    Attributes:
        model: the network that is guarded; unchanged.
        method: what it was calibrated with.
        threshold: an input whose score is at or above it is called backdoored, and so is one whose score is
            no finite number, since whoever made the network can make it overflow.
        clean_scores: scores of the clean inputs that the threshold was set on, (N,), float64.
        warnings: what the owner must know, e.g. that a fit is poor.

    """

    #: what the score is made of, for people, and whether a low (-1) or a high (1) one is suspicious
    statistic: ClassVar[str] = "score"
    sign: ClassVar[int] = 1

    model: Classifier = field(repr=False)
    method: Guard
    threshold: float
    clean_scores: torch.Tensor = field(repr=False)
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return one score per image (N,), float64, higher where more suspicious."""

    @abstractmethod
    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors and plain values that `Guard.restored` needs beside the common ones."""

    def suspicious(self, scores: torch.Tensor) -> torch.Tensor:
        """Return which scores (N,) are called backdoored, (N,) bool."""
        return (scores >= self.threshold) | ~scores.isfinite()

    def answers_with_class(self, images: torch.Tensor) -> torch.Tensor:
        """Return the labels (N,), the number of classes standing for "backdoored"."""
        labels = self.model.answers(images)
        labels[self.suspicious(self.score(images))] = self.model.num_classes
        return labels

    def save(self, folder: str | Path) -> Path:
        """Write the guard (not the model) to a folder: plain JSON, and tensors without pickle.

        Raises:
            InputError: the folder cannot be written.

        """
        folder = Path(folder)
        tensors, values = self.state()
        record = {
            "schema": SCHEMA,
            "kind": self.method.name,
            "hyper_parameters": self.method.hyper_parameters(),
            "threshold": self.threshold,
            "warnings": list(self.warnings),
            "network": digest(self.model.network),
            "preprocessing": str(self.model.preprocessing),
            "values": values,
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({**tensors, "clean_scores": self.clean_scores.contiguous()}, folder / TENSORS)
            (folder / VALUES).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write the guard to {folder}: {error}") from error
        return folder


@dataclass(frozen=True, kw_only=True)
class Guard(Method, ABC):
    """Base of the guards: each learns from a model and clean inputs what is usual."""

    @abstractmethod
    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> Calibrated:
        """Return a guard for `model`, its threshold set on `clean` images (labels are not used)."""

    @abstractmethod
    def restored(self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any) -> Calibrated:
        """Rebuild a calibrated guard from its `state`; both come from outside and are checked.

        Args:
            common: the fields of `Calibrated`.
            tensors: as `Calibrated.state` gave them.
            values: as `Calibrated.state` gave them, as JSON has them.

        Raises:
            DataError: they are not what this guard wrote.

        """


def load_guard(folder: str | Path, model: Classifier) -> Calibrated:
    """Read a guard that `Calibrated.save` wrote, for the model it was calibrated for.

    Raises:
        DataError: no guard there, or one that is damaged.
        ModelError: it was calibrated for another network, or for another preprocessing.

    """
    folder = Path(folder)
    record = read_record(folder)
    method = _method(record, folder)
    tensors = _tensors(folder / TENSORS)
    scores = tensors.pop("clean_scores", torch.empty(0))
    if scores.ndim != 1 or not len(scores) or not bool(scores.isfinite().all()):
        raise DataError(f"{folder}: expected clean_scores, one finite number per clean input")
    if record["network"] != digest(model.network):
        raise ModelError(
            f"{folder}: expected the network that the guard was calibrated for "
            f"(weights {record['network'][:12]}), got another (weights {digest(model.network)[:12]})"
        )
    if record["preprocessing"] != str(model.preprocessing):
        raise ModelError(
            f"{folder}: expected a model fed with {record['preprocessing']}, as the guard was calibrated, "
            f"got {model.preprocessing}"
        )
    common = {
        "model": model,
        "method": method,
        "threshold": float(record["threshold"]),
        "clean_scores": scores.double(),
        "warnings": tuple(map(str, record["warnings"])),
    }
    try:
        return method.restored(common, tensors, record["values"])
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error


def read_record(folder: str | Path) -> dict[str, Any]:
    """Return the plain values of a saved guard, their types checked.

    Raises:
        DataError: no guard there, or one that is damaged.

    """
    path = Path(folder) / VALUES
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: expected at most {_MOST_BYTES:,} bytes")
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(
            f"expected the folder of a guard, as `detrojan guard calibrate` writes it; "
            f"{path} cannot be read: {error.strerror or error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a guard's JSON: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        got = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise DataError(f"{path}: expected the schema {SCHEMA}, got {got!r}")
    kinds: dict[str, Any] = {
        "kind": str,
        "hyper_parameters": dict,
        "threshold": int | float,
        "warnings": list,
        "network": str,
        "preprocessing": str,
        "values": dict,
    }
    wrong = [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]
    if wrong or not is_finite(record["threshold"]):
        raise DataError(
            f"{path}: expected {wrong[0] if wrong else 'a finite threshold'}, got none of its type"
        )
    return record


def is_finite(value: Any) -> bool:
    """Return whether a value out of JSON is a number that a float can hold."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):  # no number; an integer beyond every float
        return False


def _method(record: dict[str, Any], folder: Path) -> Guard:
    package = importlib.import_module(__package__ or "")
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(info.name)
    known = {kind.name: kind for kind in Guard.__subclasses__() if kind.name}
    kind = known.get(record["kind"])
    if kind is None:
        raise DataError(
            f"{folder}: expected a guard out of {', '.join(sorted(known))}, got {record['kind']!r}"
        )
    names = {one.name for one in fields(kind)}
    if set(record["hyper_parameters"]) != names:
        raise DataError(
            f"{folder}: expected the hyper-parameters {', '.join(sorted(names))}, "
            f"got {', '.join(sorted(record['hyper_parameters']))}"
        )
    try:
        return kind(**record["hyper_parameters"])
    except (OptionError, TypeError, OverflowError) as error:
        raise DataError(f"{folder}: its hyper-parameters make no {record['kind']} guard: {error}") from error


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a guard's tensors: {error}") from error
