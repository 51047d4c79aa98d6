"""What one call of the command line knows: its words, how much it says, where its state is kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class State:
    """One call of the command line.

    Attributes:
        command: the words of the call, for the report.
        debug: whether errors come with a traceback.
        checkpoint: where the work under way keeps its state; None while there is none.
        defaults: files whose defaults count for this call.

    """

    command: list[str] = field(default_factory=list)
    debug: bool = False
    checkpoint: Path | None = None
    defaults: tuple[Path, ...] = ()

    @cached_property
    def console(self) -> Console:
        """Where progress, logs and errors go: stderr."""
        from rich.console import Console  # noqa: PLC0415 - `--help` shall be fast

        return Console(stderr=True)

    def note(self, text: str, style: str = "") -> None:
        """Write a line on stderr; whatever it quotes is shown as plain characters."""
        from rich.text import Text  # noqa: PLC0415

        from detrojan.words import printable  # noqa: PLC0415

        lines = [printable(line, 2000) for line in text.splitlines()]
        self.console.print(Text("\n".join(lines), style=style), soft_wrap=True)


def current() -> State:
    """Return the state of the call under way."""
    state = click.get_current_context().find_root().obj
    assert isinstance(state, State)
    return state


def _harmless(record: logging.LogRecord) -> bool:
    """Show names out of files as plain characters: an escape sequence must not reach the terminal."""
    from detrojan.words import printable  # noqa: PLC0415

    record.msg, record.args = printable(record.getMessage(), 2000), ()
    return True


def start_logging(*, verbose: bool) -> None:
    """Send the library's log to stderr: what is wrong always, what is done where asked for."""
    from rich.logging import RichHandler  # noqa: PLC0415

    logger = logging.getLogger("detrojan")
    for old in [item for item in logger.handlers if isinstance(item, RichHandler)]:
        logger.removeHandler(old)
    handler = RichHandler(console=current().console, show_path=False, show_time=verbose, markup=False)
    handler.addFilter(_harmless)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    # what the readers warn of stands in the report, and would be said twice
    logging.getLogger("detrojan.data.reading").setLevel(logging.NOTSET if verbose else logging.ERROR)
    # what is done to pictures of another size is always said
    logging.getLogger("detrojan.jobs.inputs").setLevel(logging.INFO)
