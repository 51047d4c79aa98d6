"""The report as JSON: what other programs read, and what all other outputs are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from detrojan.report.outputs.base import Output

if TYPE_CHECKING:
    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.schema import AnyReport


class JsonText(Output):
    """Versioned JSON, which `detrojan repair --findings` and `load_report` read."""

    name = "json"
    help = "Also write the JSON here."

    def render(self, report: AnyReport, pictures: Mapping[int, TriggerPictures] | None = None) -> str:
        """Return the JSON, with a line break at its end."""
        return report.to_json() + "\n"
