"""Shows a run's progress on stderr: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bars,
    ProgressColumn,
    SpinnerColumn,
    Task as Bar,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from detrojan.run import Task

#: seconds between two lines where nobody watches a live display
QUIET_SECONDS = 10.0


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, e.g. "0:02:05"."""
    return str(timedelta(seconds=round(seconds)))


class RateColumn(ProgressColumn):
    """Units per second, or per minute where that is less than one."""

    def render(self, task: Bar) -> Text:
        """Return the rate as text; nothing before it is known."""
        return Text(rate_text(task.finished_speed or task.speed), style="dim")


def rate_text(rate: float | None) -> str:
    """Return a rate (units per second) for people, e.g. "3.2/s" or "12/min"."""
    if not rate:
        return ""
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


class _LiveTask:
    def __init__(self, bars: Bars, bar: TaskID) -> None:
        self._bars, self._bar = bars, bar

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        if note is None:
            self._bars.advance(self._bar, amount)
        else:
            self._bars.update(self._bar, advance=amount, note=note)


class _PlainTask:
    """Counts, and has a line written at most every `QUIET_SECONDS` for all tasks together."""

    def __init__(
        self, title: str, total: float | None, say: Callable[[str], None], now: Callable[[], float]
    ) -> None:
        self._title, self._total, self._say, self._now = title, total, say, now
        self._begun = now()
        self._done = 0.0
        self._note = ""

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        self._done += amount
        self._note = self._note if note is None else note
        self._say(self.line())

    def line(self) -> str:
        """Return the state in one line."""
        spent = self._now() - self._begun
        rate = self._done / spent if spent > 0 else 0.0
        count = f"{self._done:g}" if self._total is None else f"{self._done:g}/{self._total:g}"
        parts = [f"{self._title}: {count}", f"{clock(spent)} elapsed"]
        if self._total is not None and rate > 0:
            parts.append(f"{clock(max(self._total - self._done, 0) / rate)} left")
        return ", ".join(part for part in (*parts, rate_text(rate), self._note) if part)


class RichProgress:
    """Shows tasks, nested ones indented, with time elapsed, time remaining and rate.

    On a terminal the bars are live and vanish with the outermost task. Where stderr is no terminal
    (or one that cannot move its cursor), a plain line appears at most every ten seconds, so that
    short work leaves no trace in a log.

    Args:
        console: where to write; stderr by default. Log handlers should share it.
        now: the clock, in seconds.

    """

    def __init__(self, console: Console | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self._now = now
        self._bars: Bars | None = None
        self._depth = 0
        self._last_line = now()

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """Show a piece of work of `total` units (None: unknown) while the body runs."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            yield _PlainTask(title, total, self._say, self._now)
            return
        bars = self._open()
        bar = bars.add_task("  " * self._depth + title, total=total, note="")
        self._depth += 1
        try:
            yield _LiveTask(bars, bar)
        finally:
            self._depth -= 1
            bars.remove_task(bar)
            if self._depth == 0:
                bars.stop()
                self._bars = None

    def _open(self) -> Bars:
        if self._bars is None:
            self._bars = Bars(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                RateColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(elapsed_when_finished=False),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=self.console,
                transient=True,
                refresh_per_second=5,
            )
            self._bars.start()
        return self._bars

    def _say(self, line: str) -> None:
        moment = self._now()
        if moment - self._last_line >= QUIET_SECONDS:
            self._last_line = moment
            self.console.out(line, highlight=False)
