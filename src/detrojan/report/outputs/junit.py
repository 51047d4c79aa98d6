"""Results as JUnit XML, which build servers show as tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detrojan.report.outputs.base import Gathering

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from detrojan.report.problems import Judged, Result

#: what XML 1.0 cannot hold
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnit(Gathering):
    """One test for each judged file: it passes, fails, or is an error where nothing can be said."""

    name = "junit"
    help = "Also write JUnit XML here, for build servers."
    endings = ("xml",)

    def render_all(self, results: Sequence[Result]) -> str:
        """Return the document, with a line break at its end."""
        from xml.etree.ElementTree import Element, indent, tostring  # noqa: PLC0415 - `--help` shall be fast

        from detrojan.report.problems import judged  # noqa: PLC0415

        subjects = [judged(result) for result in results]
        root = Element("testsuites", name="detrojan")
        for verb in dict.fromkeys(one.verb for one in subjects):
            _suite(root, verb, [one for one in subjects if one.verb == verb])
        suites = list(root)
        for name in ("tests", "failures", "errors", "skipped"):
            root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
        root.set("time", f"{sum(one.seconds for one in subjects):.3f}")
        indent(root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, verb: str, subjects: Sequence[Judged]) -> None:
    from xml.etree.ElementTree import SubElement  # noqa: PLC0415

    suite = SubElement(root, "testsuite", name=f"detrojan {verb}")
    begun = min((one.started for one in subjects if one.started), default="")
    if begun:
        suite.set("timestamp", begun)
    for one in subjects:
        _case(suite, one)
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    for plural, name in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(sum(case.find(name) is not None for case in cases)))
    suite.set("time", f"{sum(one.seconds for one in subjects):.3f}")


def _case(suite: Element, one: Judged) -> None:
    """Add the test of one file; a backdoor fails it, and what could not be said is an error."""
    from xml.etree.ElementTree import SubElement  # noqa: PLC0415

    name = _clean(one.path) or "model"
    case = SubElement(
        suite, "testcase", classname=f"detrojan.{one.verb}", name=name, time=f"{one.seconds:.3f}"
    )
    known = [("sha256", one.sha256), ("verdict", one.verdict), ("version", one.version)]
    known += [("method", one.method), ("seed", "" if one.seed is None else str(one.seed))]
    properties = SubElement(case, "properties")
    for key, value in known:
        if value:
            SubElement(properties, "property", name=key, value=_clean(value))
    counting = [problem for problem in one.problems if problem.accepted is None]
    if counting:
        kind = "failure" if counting[0].rule.level != "note" and one.done else "error"
        wrong = SubElement(case, kind, type=counting[0].rule.id, message=_clean(one.said))
        wrong.text = _clean(
            "\n".join(
                line
                for problem in counting
                for line in (
                    f"{problem.rule.id}: {problem.message}",
                    f"fingerprint {problem.fingerprint}",
                    problem.rule.help,
                )
            )
        )
    elif one.problems:
        reasons = dict.fromkeys(
            problem.accepted.reason or "known finding" for problem in one.problems if problem.accepted
        )
        SubElement(case, "skipped", message=_clean(f"accepted: {'; '.join(reasons)}"))
    said = SubElement(case, "system-out")
    said.text = _clean("\n".join([one.said, *(problem.message for problem in one.problems)]))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
