"""What an output of reports is, and which ones there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from detrojan.catalog import classes

if TYPE_CHECKING:
    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.problems import Result
    from detrojan.report.schema import AnyReport


class Output(ABC):
    """Base of the outputs: each writes a report of any kind as text of one form.

    A file of this package that holds a subclass is all that a new output needs: the verbs that it names
    then take `--NAME FILE`. It is imported for every `--help`, so it imports what
    is slow inside `render`.
    """

    #: the name of the option, without dashes
    name: ClassVar[str] = ""
    #: what the option says of itself
    help: ClassVar[str] = ""
    #: whether `render` makes something of the triggers' pictures
    pictured: ClassVar[bool] = False
    #: the verbs that take the option
    verbs: ClassVar[tuple[str, ...]] = ("scan", "repair", "evaluate")
    #: endings of files that hold it, beside its name
    endings: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def render(self, report: AnyReport, pictures: Mapping[int, TriggerPictures] | None = None) -> str:
        """Return the report as text.

        Args:
            report: of a scan, a repair or an evaluation.
            pictures: of the findings' triggers, by label.

        """


class Gathering(Output):
    """Base of the outputs for other tools: one text may hold any number of results."""

    verbs = ("scan", "repair", "filter", "fleet")

    def render(self, report: Any, pictures: Mapping[int, TriggerPictures] | None = None) -> str:
        """Return one result as text."""
        return self.render_all([report])

    @abstractmethod
    def render_all(self, results: Sequence[Result]) -> str:
        """Return several results as one text.

        Args:
            results: of scans, repairs and filters, and of files that could not be judged, in their order.

        """


def outputs(verb: str | None = None) -> dict[str, Output]:
    """Return the outputs by name; JSON comes first, then HTML, the others in the order of their names.

    Args:
        verb: whose; None for all.

    """
    found = {kind.name: kind() for kind in classes("detrojan.report.outputs", Output)}  # type: ignore[type-abstract]
    first = ["json", "html"]
    ordered = sorted(found.items(), key=lambda item: (*(item[0] != name for name in first), item[0]))
    return {name: kind for name, kind in ordered if verb is None or verb in kind.verbs}
