"""What all callbacks share: when training ends they scan, keep the report, and raise or warn."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from torch import nn

from detrojan.calls import verbs
from detrojan.calls.given import Feeding, ModelLike
from detrojan.calls.results import ScanOutcome, output_of
from detrojan.errors import BackdoorFoundError, OptionError
from detrojan.extras import require
from detrojan.jobs.baselines import Known, accept, read_baseline
from detrojan.report.problems import scan_exit
from detrojan.report.text import plain_text, report_text

OnBackdoor = Literal["raise", "warn"]
#: classes with their framework's own one as base: always the same, so that types can be compared
_made: dict[tuple[type[Any], ...], type[Any]] = {}
_logger = logging.getLogger(__name__)


def scanned(
    model: ModelLike,
    data: Any,
    labels: Any = None,
    *,
    known: Known | None = None,
    report: str | Path | None = None,
    called: str = "",
    **how: Any,
) -> tuple[ScanOutcome, int]:
    """Scan a model, mark known findings and write the report.

    Args:
        model: as for `detrojan.scan`.
        data: as for `detrojan.scan`.
        labels: as for `detrojan.scan`.
        known: findings that are accepted.
        report: where the report goes, or None.
        called: what the report calls the model; empty for its path. A baseline knows it by this name.
        how: what else `detrojan.scan` takes.

    Returns:
        What was found, and its exit code: 0 nothing, 1 a backdoor, 3 inconclusive.

    """
    found = verbs.scan(model, data, labels, **how)
    if called:
        told = [warning.replace(str(model), called) for warning in found.report.warnings]
        facts = found.report.model.model_copy(update={"path": called})
        renamed = found.report.model_copy(
            update={"model": facts, "warnings": told if isinstance(model, Path) else found.report.warnings}
        )
        found = replace(found, report=renamed)
    if known is not None:
        found = replace(found, report=accept(found.report, known))
    if report is not None:
        found.save(report)
    return found, scan_exit(found.report)


def figures(found: ScanOutcome) -> dict[str, int]:
    """Return what a log of figures can hold."""
    return {
        "detrojan_exit_code": scan_exit(found.report),
        "detrojan_flagged_labels": len(found.findings),
    }


def in_words(found: ScanOutcome) -> str:
    """Return the report as plain text."""
    return plain_text(report_text(found.report), width=100)


class Ending:
    """A callback that scans the network when its training has ended.

    The framework's own class becomes its base when a callback is made. So this file and those beside it
    can be imported where the framework is not installed.

    Args:
        data: a few hundred clean images like those the network is used for, as `detrojan.scan` takes them.
        labels: (N,) of the images, where they are known and do not come with them.
        on_backdoor: "raise" ends with `BackdoorFoundError`, "warn" with a warning in the log. A scan that
            can say nothing always warns.
        report: where the report goes, whatever it says; the ending says as what, e.g. scan.html.
        baseline: a file of known findings, which are let pass; see `detrojan baseline`.
        how: what else `detrojan.scan` takes, such as `budget`, `method` and `input_range`.

    Attributes:
        found: what the scan found; None before the end of training.

    Raises:
        MissingExtraError: the framework is not installed.
        OptionError: an option that is not known, or a report's ending that no output has.
        DataError: the baseline cannot be read.

    """

    #: modules that hold the framework's own class, the usual one first
    homes: ClassVar[tuple[str, ...]]
    #: what that class is called there
    base: ClassVar[str] = "Callback"
    #: the extra that installs the framework
    extra: ClassVar[str]

    def __new__(cls, *_given: Any, **_how: Any) -> Self:
        """Make one that the framework takes for its own."""
        plain: type[Ending] = cls
        made: type[Self] = _joined(plain, _bases(plain))
        return super().__new__(made)

    def __init__(
        self,
        data: Any,
        labels: Any = None,
        *,
        on_backdoor: OnBackdoor = "raise",
        report: str | Path | None = None,
        baseline: str | Path | None = None,
        **how: Any,
    ) -> None:
        super().__init__()
        if on_backdoor not in get_args(OnBackdoor):
            raise OptionError(f"expected on_backdoor to be raise or warn, got {on_backdoor!r}")
        options = {name for name, one in signature(verbs.scan).parameters.items() if one.kind.value == 3}
        unknown = sorted(set(how) - options - set(Feeding.__annotations__))
        if unknown:  # said now, not after hours of training
            raise OptionError(f"expected options of detrojan.scan, got {', '.join(unknown)}")
        if report is not None:
            output_of(report)
        self.found: ScanOutcome | None = None
        self._data, self._labels, self._how = data, labels, how
        self._raises, self._report = on_backdoor == "raise", report
        self._known = None if baseline is None else read_baseline(Path(baseline))

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how it is made again in another process, where its class does not exist yet."""
        plain = next(kind for kind in type(self).__mro__ if not kind.__dict__.get("made_here"))
        return _again, (plain,), self.__dict__

    def _scan(self, model: ModelLike, called: str, **usual: Any) -> dict[str, int]:
        """Scan the model and return what a framework's log can hold; `_end` then raises or warns."""
        with _in_place(model):
            self.found, _ = scanned(
                model,
                self._data,
                self._labels,
                known=self._known,
                report=self._report,
                called=called,
                **{**usual, **self._how},
            )
        return figures(self.found)

    def _end(self) -> None:
        """Raise or warn, if there is reason to.

        Raises:
            BackdoorFoundError: a backdoor was found, and `on_backdoor` is "raise".

        """
        assert self.found is not None
        code = scan_exit(self.found.report)
        if code == 1 and self._raises:
            raise BackdoorFoundError(in_words(self.found))
        if code:
            _logger.warning("%s", in_words(self.found))
        else:
            _logger.info("%s", self.found.summary())


def _bases(plain: type[Ending]) -> tuple[type, ...]:
    """Return the framework's own class; both of them where it has two names and both are in use."""
    homes = [sys.modules[name] for name in plain.homes if sys.modules.get(name)]
    homes = homes or [require(plain.homes[0], extra=plain.extra, what="its callbacks")]
    return tuple(dict.fromkeys(getattr(home, plain.base) for home in homes))


def _joined(plain: type[Ending], bases: tuple[type, ...]) -> type[Any]:
    """Return the class with the framework's own one as its base."""
    if all(issubclass(plain, base) for base in bases):
        return plain
    key = (plain, *bases)
    if key not in _made:
        names = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
        _made[key] = type(plain.__name__, key, {**names, "made_here": True})
    return _made[key]


def _again(plain: type[Ending]) -> Ending:
    return plain.__new__(plain)


@contextmanager
def _in_place(model: ModelLike) -> Iterator[None]:
    """Bring a network back to the device that it was on."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    devices = {parameter.device for parameter in parameters}
    try:
        yield
    finally:
        if isinstance(model, nn.Module) and len(devices) == 1:
            model.to(devices.pop())
