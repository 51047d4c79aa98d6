"""Other seeds for what is trained, and a record of how far each figure lies from its bound.

`--seed-shift N` moves every seed: those of `Run`, and those that the helpers draw data and starts from.
`--margins FILE` adds one JSON line for each comparison that a test asserts, and one for each failure;
pytest's option `enable_assertion_pass_hook` has to be on.
`scripts/steadiness` runs the tests with several shifts and makes a table of both.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from detrojan.run import Run

CHECKOUT = Path(__file__).resolve().parent.parent
TESTS = CHECKOUT / "tests"
#: fixtures that hold a trained network: a test that asks for one asserts what holds for others like it
TRAINED = {
    "arena", "bench", "case", "dark", "large_twins", "lots", "scanned", "stepping", "suspect", "twins",
    "world",
}  # fmt: skip
#: what tells a comparison with a tolerance from one that is exact but for rounding
TOLERANCE = 1e-3

_SHIFT = 0


def shifted(seed: int) -> int:
    """Return the seed to use in the place of `seed`: the same one, unless other seeds were asked for."""
    return seed + 1000 * _SHIFT


def shift_seeds(shift: int) -> None:
    """Move all seeds of this process."""
    global _SHIFT  # noqa: PLW0603 - the tests of a process share their seeds
    _SHIFT = shift
    if not shift:
        return
    plain = Run.derived_seed
    Run.derived_seed = lambda self, *names: plain(self, f"shift {shift}", *names)  # type: ignore[method-assign]


#: warnings are errors, but for NumPy's where it is kept from instructions that it does not choose at run time
STRICT = ("-W", "error", "-W", "ignore:During parsing environment variable:ImportWarning")


def command(script: Path) -> list[str]:
    """Return the command that runs a script with the seeds of this process."""
    if not _SHIFT:
        return [sys.executable, *STRICT, str(script)]
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(TESTS)!r}); from margins import shift_seeds; "
        f"shift_seeds({_SHIFT}); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, *STRICT, "-c", code, str(script)]


def mark(items: list[pytest.Item]) -> None:
    """Mark as `effect` what asks for a trained network, unless it is marked `exact`."""
    for item in items:
        if TRAINED & set(getattr(item, "fixturenames", ())) and not item.get_closest_marker("exact"):
            item.add_marker("effect")


class Margins:
    """Writes down what is compared with what, as a pytest plugin."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compared: list[tuple[str, Any, Any]] = []
        self.seen: Counter[tuple[str, int]] = Counter()
        self.phase = "setup"

    def pytest_assertrepr_compare(self, op: str, left: Any, right: Any) -> None:
        """Take the two sides of a comparison, as pytest computes its explanation."""
        self.compared.append((op, left, right))

    def pytest_assertion_pass(self, item: pytest.Item, lineno: int, orig: str) -> None:
        self._note(item, lineno, orig, passed=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        report = yield
        if report.failed:
            where = call.excinfo.traceback[-1]
            text = str(where.statement).strip().removeprefix("assert ")
            if self.compared and call.excinfo.errisinstance(AssertionError):
                self._write(item.nodeid, where.lineno + 1, text, passed=False)
            said = call.excinfo.exconly().splitlines()[0]
            self._line({"test": item.nodeid, "failed": f"{said} ({text})"})
        self.compared.clear()
        return report

    def pytest_runtest_logstart(self) -> None:
        self.seen.clear()
        self.compared.clear()

    def _note(self, item: pytest.Item, line: int, text: str, *, passed: bool) -> None:
        frame = _tests_frame(item.path)
        function = getattr(item, "originalname", item.name)
        same = frame is not None and frame.f_code.co_name == function
        # an assertion of a fixture belongs to the fixture, whichever test asks for it first
        place = item.nodeid
        if frame is not None and not same and _in_setup(frame):
            path = os.path.relpath(frame.f_code.co_filename, CHECKOUT)
            place = f"{path}::{frame.f_code.co_name}"
        self._write(place, line, text, passed=passed)

    def _write(self, test: str, line: int, text: str, *, passed: bool) -> None:
        compared, self.compared = self.compared[-1:], []
        for op, left, right in compared:
            sides = _figures(op, left, right)
            if sides is None:
                continue
            count = self.seen[test, line]
            self.seen[test, line] += 1
            figure, bound, distance = sides
            self._line(
                {
                    "test": test,
                    "line": line,
                    "count": count,
                    "text": " ".join(text.split()),
                    "op": op,
                    "figure": figure,
                    "bound": bound,
                    "distance": distance,
                    "passed": passed,
                }
            )

    def _line(self, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _figures(op: str, left: Any, right: Any) -> tuple[float, float, float] | None:
    """Return a figure, its bound, and how far it lies on the right side; None where there is no such."""
    if op == "==" and type(right).__name__ == "ApproxScalar":
        tolerance, left, right = right.tolerance, _number(left), _number(right.expected)
        if left is None or right is None or tolerance < TOLERANCE * max(1.0, abs(right)):
            return None
        return left, right, tolerance - abs(left - right)
    if op not in {"<", "<=", ">", ">="}:
        return None
    left, right = _number(left), _number(right)
    # the last three ask whether there is any, and whether a share is one
    if left is None or right is None or (op, right) in {(">", 0), (">=", 0), ("<=", 1)}:
        return None
    return left, right, right - left if op[0] == "<" else left - right


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _tests_frame(test: Path) -> FrameType | None:
    """Return the innermost frame of this test's file or of another file of the tests."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path == test or (path.is_relative_to(TESTS) and path != Path(__file__)):
            return frame
        frame = frame.f_back
    return None


def _in_setup(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "pytest_fixture_setup":
            return True
        frame = frame.f_back
    return False
