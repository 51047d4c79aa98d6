"""What an output of reports is, and which ones there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from detrojan.catalog import classes

if TYPE_CHECKING:
    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.schema import AnyReport


class Output(ABC):
    """Base of the outputs: each writes a report of any kind as text of one form.

    A file of this package that holds a subclass is all that a new output needs: `detrojan scan`,
    `repair` and `evaluate` then take `--NAME FILE`. It is imported for every `--help`, so it imports what
    is slow inside `render`.
    """

    #: the name of the option, without dashes
    name: ClassVar[str] = ""
    #: what the option says of itself
    help: ClassVar[str] = ""
    #: whether `render` makes something of the triggers' pictures
    pictured: ClassVar[bool] = False

    @abstractmethod
    def render(self, report: AnyReport, pictures: Mapping[int, TriggerPictures] | None = None) -> str:
        """Return the report as text.

        Args:
            report: of a scan, a repair or an evaluation.
            pictures: of the findings' triggers, by label.

        """


def outputs() -> dict[str, Output]:
    """Return the outputs by name; JSON comes first, the others in the order of their names."""
    found = {kind.name: kind() for kind in classes("detrojan.report.outputs", Output)}  # type: ignore[type-abstract]
    return dict(sorted(found.items(), key=lambda item: (item[0] != "json", item[0])))
