from __future__ import annotations

import io

import pytest
from rich.console import Console

from detrojan.console.progress import RichProgress, clock, rate_text


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def passing() -> Clock:
    return Clock()


def plain(passing: Clock) -> tuple[RichProgress, io.StringIO]:
    stream = io.StringIO()
    return RichProgress(Console(file=stream, force_terminal=False, width=200), now=passing), stream


def live() -> tuple[RichProgress, io.StringIO]:
    stream = io.StringIO()
    console = Console(
        file=stream,
        force_terminal=True,
        width=160,
        color_system=None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )
    return RichProgress(console), stream


def test_by_default_it_speaks_on_stderr(capfd):
    progress = RichProgress()
    progress.console.print("here")
    assert capfd.readouterr() == ("", "here\n")


def test_short_work_leaves_no_line_in_a_log(passing):
    progress, stream = plain(passing)
    with progress.task("invert", 40) as task:
        for _ in range(40):
            passing.seconds += 0.2
            task.advance()
    assert stream.getvalue() == ""


def test_long_work_leaves_a_line_every_ten_seconds(passing):
    progress, stream = plain(passing)
    with progress.task("invert", 40) as task:
        for step in range(10):
            passing.seconds += 4
            task.advance(note=f"cost {step}")
    assert stream.getvalue().splitlines() == [
        "invert: 3/40, 0:00:12 elapsed, 0:02:28 left, 15.0/min, cost 2",
        "invert: 6/40, 0:00:24 elapsed, 0:02:16 left, 15.0/min, cost 5",
        "invert: 9/40, 0:00:36 elapsed, 0:02:04 left, 15.0/min, cost 8",
    ]


def test_nested_tasks_share_the_line_budget(passing):
    progress, stream = plain(passing)
    with progress.task("labels", 4) as outer, progress.task("steps") as inner:
        passing.seconds += 11
        inner.advance(22)
        outer.advance()
        passing.seconds += 11
        outer.advance()
        inner.advance()
    assert stream.getvalue().splitlines() == [
        "steps: 22, 0:00:11 elapsed, 2.0/s",
        "labels: 2/4, 0:00:22 elapsed, 0:00:22 left, 5.5/min",
    ]


def test_a_terminal_sees_nested_bars_with_counts_and_notes():
    progress, stream = live()
    with progress.task("labels [0-9]", 10) as outer, progress.task("steps", 100) as inner:
        outer.advance(3)
        inner.advance(50, note="mask L1 [12]")
        progress._bars.refresh()
        shown = stream.getvalue()
    assert "labels [0-9]" in shown
    assert "  steps" in shown
    assert "3/10" in shown
    assert "50/100" in shown
    assert "mask L1 [12]" in shown


def test_the_display_closes_with_the_outermost_task_even_on_an_error():
    progress, stream = live()

    def fail():
        with progress.task("labels", 10), progress.task("steps", 100):
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert progress._bars is None
    assert stream.getvalue().rstrip("\n").count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
    with progress.task("again", 1) as task:
        task.advance()
    assert progress._bars is None


def test_a_dumb_terminal_gets_lines(passing):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200, _environ={"TERM": "dumb"})
    with RichProgress(console, now=passing).task("invert", 2) as task:
        passing.seconds += 12
        task.advance()
    assert stream.getvalue() == "invert: 1/2, 0:00:12 elapsed, 0:00:12 left, 5.0/min\n"


def test_clock_and_rate_are_for_people():
    assert clock(125.4) == "0:02:05"
    assert clock(3600 * 3) == "3:00:00"
    assert rate_text(None) == rate_text(0) == ""
    assert rate_text(3.25) == "3.2/s"
    assert rate_text(0.2) == "12.0/min"
