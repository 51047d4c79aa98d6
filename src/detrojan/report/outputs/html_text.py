"""The report as a page that holds all it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from detrojan.report.outputs.base import Output

if TYPE_CHECKING:
    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.schema import AnyReport


class HtmlText(Output):
    """A self-contained page, with pictures of the triggers."""

    name = "html"
    help = "Also write a page here."
    pictured = True
    endings = ("htm",)

    def render(self, report: AnyReport, pictures: Mapping[int, TriggerPictures] | None = None) -> str:
        """Return the page."""
        from detrojan.report.html_page import render_html  # noqa: PLC0415 - pages alone need it

        return render_html(report, pictures)
