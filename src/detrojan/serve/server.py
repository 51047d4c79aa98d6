"""Runs a service until it is stopped, and then answers what it has accepted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detrojan.errors import InputError
from detrojan.extras import require
from detrojan.guards.base import Calibrated
from detrojan.serve.connections import impatient
from detrojan.serve.log import bridge, logger
from detrojan.serve.options import ServeOptions
from detrojan.serve.routes import application
from detrojan.serve.service import Service
from detrojan.serve.upstream import Upstream

#: what the extra "serve" installs
LIBRARIES = ("starlette", "uvicorn", "structlog", "prometheus_client")


def check_libraries() -> None:
    """Refuse to begin where a library is missing.

    Raises:
        MissingExtraError: the message holds the command that installs it.

    """
    for library in LIBRARIES:
        require(library, extra="serve", what="services")


class Server:
    """A service that listens.

    Args:
        guard: calibrated, with its model.
        options: the settings.
        log: a structlog logger; None for one that writes to stderr.
        upstream: the server that has the model; None where it is computed here.

    Raises:
        InputError: the address is in use, or not of this machine.
        MissingExtraError: a library is missing.

    """

    def __init__(
        self, guard: Calibrated, options: ServeOptions, log: Any = None, upstream: Upstream | None = None
    ) -> None:
        check_libraries()
        import uvicorn  # noqa: PLC0415 - an extra

        self.log = log or logger()
        self.service = Service(guard, options, self.log, upstream)
        bridge(self.log)
        config = uvicorn.Config(
            application(self.service),
            host=options.host,
            port=options.port,
            loop="asyncio",
            http=impatient(options.timeout),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, round(options.drain)),
        )
        self._socket = _listen(options.host, options.port)
        self.port: int = self._socket.getsockname()[1]
        self._server = _stoppable(uvicorn.Server, self)(config)

    @property
    def url(self) -> str:
        """Where it answers."""
        host = self.service.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def run(self) -> None:
        """Answer until SIGTERM or SIGINT comes, or `stop` is called; then answer what was accepted."""
        options = self.service.options
        self.log.info(
            "serving",
            url=self.url,
            mode=options.mode,
            model=self.service.name,
            token=options.token is not None,
        )
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """End, from any thread: say "not ready" for the time of grace, then take no more requests."""
        if self.service.draining:
            self._server.force_exit = True
            return
        self.service.draining = True
        self.log.info("draining", open_requests=len(self._server.server_state.tasks))
        timer = threading.Timer(self.service.options.grace, self._close)
        timer.daemon = True
        timer.start()

    def _close(self) -> None:
        self._server.should_exit = True


def _stoppable(kind: Any, server: Server) -> Any:
    """Return uvicorn's server with signals that stop it as `Server.stop` does, and exit code 0."""

    class Stoppable(kind):  # type: ignore[misc]
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            loop = asyncio.get_running_loop()
            wanted = (signal.SIGINT, signal.SIGTERM)
            for number in wanted:
                loop.add_signal_handler(number, server.stop)
            try:
                yield
            finally:
                for number in wanted:
                    loop.remove_signal_handler(number)

    return Stoppable


def _listen(host: str, port: int) -> Any:
    import socket  # noqa: PLC0415 - beside the server only

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen at {host}:{port}: {error}") from error
