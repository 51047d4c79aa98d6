"""The job of a check without data: is a model file safe to load, and does its last layer stand out?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from detrojan.errors import DetrojanError, InputError, ModelError, UnsafeFileError
from detrojan.files import at_home
from detrojan.judging.extremes import FEWEST_USUAL, high_p_values
from detrojan.metrics.head_rows import row_clues
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.parsing.strangers import address
from detrojan.report.records.check import CheckedFile, SuspectRow
from detrojan.scans.head_rows import HeadRows, deviations

Said = Literal["no sign", "suspect", "runs code", "not judged"]


def check_files(paths: Sequence[Path], *, significance: float | None = None) -> Iterator[CheckedFile]:
    """Yield what can be said of each model file without images; nothing in it is executed.

    A file that would run code is named. Of a network that is read, each label's row of the last layer is
    compared with the others, as the scan `head_rows` does.

    Args:
        paths: files or folders.
        significance: p-value, corrected for all labels, below which a row is suspect; None for that of the
            scan.

    Raises:
        InputError: one of them does not exist; that is said before the work.

    """
    paths = [at_home(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise InputError(address(path) or f"expected a model's file or folder; {path} does not exist")
    scan = HeadRows() if significance is None else HeadRows(significance=significance)
    for path in paths:
        try:
            model = load_model(path)
        except UnsafeFileError as error:
            yield _file(path, "runs code", _without(path, error))
        except DetrojanError as error:
            yield _file(path, "not judged", _without(path, error))
        else:
            yield _looked_at(path, model, scan.significance)


def _without(path: Path, error: Exception) -> str:
    """Return what an error says, without the file's name at its beginning: that is said already."""
    return str(error).removeprefix(f"{path}: ")


def _file(path: Path, said: Said, reason: str, **more: object) -> CheckedFile:
    return CheckedFile.model_validate({"path": str(path), "said": said, "reason": reason, **more})


def _looked_at(path: Path, model: Classifier, significance: float) -> CheckedFile:
    """Return what the rows of a network's last layer say."""
    facts = {"sha256": model.origin.sha256, "format": model.origin.format, "net": model.origin.net}
    try:
        weight, _ = model.head_weights()
    except ModelError:
        reason = (
            "the network does not end in a linear layer, whose rows could be compared; scan it with images"
        )
        return _file(path, "not judged", reason, **facts)
    if len(weight) <= FEWEST_USUAL:
        reason = f"{FEWEST_USUAL + 1} labels or more are needed to say what is usual, got {len(weight)}"
        return _file(path, "not judged", reason, **facts)
    chances = high_p_values(deviations(row_clues(weight)).mean(0), "normal").tolist()
    suspect = [
        SuspectRow(label=label, class_name=model.class_name(label), p_value=chance)
        for label, chance in enumerate(chances)
        if chance < significance
    ]
    if not suspect:
        return _file(path, "no sign", f"no row of the last layer stands out (p < {significance:g})", **facts)
    named = ", ".join(f"{row.label} (p = {row.p_value:.2g})" for row in suspect[:4])
    reason = f"the last layer's row stands out of label {named}: scan this model with images"
    return _file(path, "suspect", reason, suspect=suspect, **facts)
