"""The first look at a model, without data: is its file safe, can it be read, does its head stand apart?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detrojan.errors import DetrojanError, MissingExtraError, ModelError, UnsafeFileError
from detrojan.files import refuse_special
from detrojan.jobs.feeding import without_auto
from detrojan.jobs.inputs import load_model_of
from detrojan.jobs.sources import ModelSource
from detrojan.judging.extremes import FEWEST_USUAL, high_p_values
from detrojan.metrics.head_rows import row_clues
from detrojan.models.classifier import Classifier
from detrojan.models.loading import file_sha256, format_of, model_sha256
from detrojan.report.records.fleet import Category, FirstLook
from detrojan.run import Run
from detrojan.scans.head_rows import deviations

#: bytes that a process needs before it reads anything, and for each byte of a model's file
_GROUND, _TIMES = 600_000_000, 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """A model to look at; its text is its name."""

    name: str
    source: ModelSource

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a model cannot be judged.

    Attributes:
        category: the kind of reason.
        reason: one sentence.

    """

    category: Category
    reason: str


def content_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a model's file or folder, and how many bytes it has.

    Raises:
        ModelError: there is nothing that can be read.

    """
    refuse_special(path, ModelError)
    if not path.is_dir():
        digest = file_sha256(path)
        return digest, path.stat().st_size
    kind = format_of(path)
    return model_sha256(path, kind), sum(file.stat().st_size for file in kind.files(path))


def memory_for(size: int) -> int:
    """Return the bytes that the work on a model of so many bytes needs, about."""
    return _GROUND + _TIMES * size


def look(run: Run, item: Look) -> FirstLook | Problem:
    """Load a model in the quarantine and read the clues of its last layer.

    Args:
        run: device and seed.
        item: the model.

    """
    try:
        kind = format_of(item.source.model)
    except DetrojanError as error:
        return problem_of(error, "unsupported")
    try:
        model = load_model_of(without_auto(item.source), run)
    except DetrojanError as error:
        return problem_of(error, "unreadable" if kind.kind else "unsupported")
    chance, label = _clue(model)
    return FirstLook(
        format=model.origin.format,
        net=model.origin.net,
        classes=model.num_classes,
        parameters=model.parameters,
        p_value=chance,
        label=label,
    )


def problem_of(error: DetrojanError, usual: Category) -> Problem:
    """Return what an error says of a model that cannot be judged.

    Args:
        error: what was raised.
        usual: the category of errors that say no more.

    """
    category: Category = usual
    if isinstance(error, UnsafeFileError):
        category = "unsafe"
    elif isinstance(error, MissingExtraError):
        category = "library"
    return Problem(category=category, reason=str(error))


def _clue(model: Classifier) -> tuple[float | None, int | None]:
    """Return how likely chance makes the row that stands apart most, and its label."""
    if model.num_classes <= FEWEST_USUAL:
        return None, None
    try:
        weight, _ = model.head_weights()
    except ModelError:
        return None, None
    chances = high_p_values(deviations(row_clues(weight)).mean(0))
    label = int(chances.argmin())
    return float(f"{float(chances[label]):.3g}"), label
