"""The log of a service: one line of JSON per event on stderr, without the contents of images."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from detrojan.words import printable


def logger(stream: TextIO | None = None) -> Any:
    """Return a structlog logger that writes JSON to a stream, stderr by default."""
    import structlog  # noqa: PLC0415 - an extra

    return structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            structlog.processors.JSONRenderer(),
        ],
    )


class Bridge(logging.Handler):
    """Hands what the server's library logs to the log of the service."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        text = printable(record.getMessage(), 500)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(self.log, level)("server", text=text, source=record.name)


def bridge(log: Any) -> None:
    """Send what uvicorn and asyncio log to the log of the service."""
    for name in ("uvicorn.error", "asyncio"):
        found = logging.getLogger(name)
        found.handlers = [Bridge(log)]
        found.propagate = False
